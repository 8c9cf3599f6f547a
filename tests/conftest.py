"""What holds for every test."""

from hypothesis import settings

# A machine that is busy with other tests is slow, not wrong.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")
