"""`python -m vitrail`, which is also how torchrun starts it."""

import sys

from vitrail.cli.main import main

sys.exit(main())
