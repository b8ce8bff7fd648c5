"""`python -m tests.kubernetes build` builds the control planes: some minutes each, once."""

import sys

from tests.kubernetes.build import VERSIONS, control_plane

if __name__ == "__main__":
    for version in VERSIONS:
        if problem := control_plane(version).main(sys.argv[1:]):
            sys.exit(problem)
