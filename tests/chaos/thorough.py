"""Which of these tests are too long for every change."""

import os

import pytest

thorough_only = pytest.mark.skipif("CHAOS_JOBS" not in os.environ, reason="it takes minutes; make chaos runs it")
