"""What some tests cannot do without."""

from importlib.util import find_spec

import pytest

GENSIM = pytest.mark.skipif(find_spec("gensim") is None, reason="needs gensim, which has no build for Python 3.14")
