"""The helpers of tests/conftest.py under a name of their own.

`import conftest` finds whichever conftest.py was loaded last; several folders have one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "root_conftest", Path(__file__).parent / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)

CHAT_TEMPLATE = _conftest.CHAT_TEMPLATE
make_tokenizer = _conftest.make_tokenizer
write_tiny_model = _conftest.write_tiny_model
