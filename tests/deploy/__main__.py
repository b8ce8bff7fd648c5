"""`python -m tests.deploy build` builds what renders `deploy/`, before the tests, once."""

import sys

from tests.deploy.build import RENDER

if __name__ == "__main__":
    sys.exit(RENDER.main(sys.argv[1:]))
