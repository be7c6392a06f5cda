"""A picture of a page of a dashboard, as the README has one.

`python -m tests.browser.picture FILE FRAGMENT PNG [SELECTOR]`, such as
`python -m tests.browser.picture results/demo/dashboard.html '#/question/capital%2Ffrance' docs/images/trajectory.png .trajectory`
"""

import sys
from pathlib import Path

from tests.browser.chromium import Chromium


def main(file: str, fragment: str, output: str, selector: str = "body") -> None:
    with Chromium(width=1320, height=1000) as browser:
        browser.open(Path(file))
        browser.go(fragment)
        browser.screenshot(Path(output), of=selector)


if __name__ == "__main__":
    main(*sys.argv[1:])
