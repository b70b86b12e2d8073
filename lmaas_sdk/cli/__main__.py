"""`python -m lmaas_sdk.cli`."""

import sys

from lmaas_sdk.cli import main

sys.exit(main())
