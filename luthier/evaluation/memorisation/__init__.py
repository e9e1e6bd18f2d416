"""What a tuned model learned by heart: one file a measure, and one that judges them together.

Each measure is a pure function of per-token log-probabilities, and ends in a test whose p says how
likely so much would be of a model that learned the task and no row. `judging.py` corrects the tests
together; `auditing.py` asks the model.

References:
    Carlini et al. 2019, "The Secret Sharer", arXiv 1802.08232 (canaries, exposure);
    Carlini et al. 2023, "Quantifying Memorization", arXiv 2202.07646 (50 tokens from 50 tokens);
    Carlini et al. 2021, "Extracting Training Data", arXiv 2012.07805 (zlib ratio, reference);
    Carlini et al. 2022, "Membership Inference From First Principles", arXiv 2112.03570 (TPR at low
    FPR); Shi et al. 2024, arXiv 2310.16789 (Min-K%); Zhang et al. 2024, arXiv 2404.02936
    (Min-K%++); Newcombe 2006, Statistics in Medicine 25:559 (interval of an AUC, method 5);
    Westfall & Young 1993, "Resampling-Based Multiple Testing" (several attacks at once); Morris et
    al. 2025, "How much do language models memorize?", arXiv 2505.24832 (how much is known).
"""
