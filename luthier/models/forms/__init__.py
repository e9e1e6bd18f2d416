"""The forms in which stages store what they trained; one file each (see `models/form.py`)."""
