"""lm-evaluation-harness's own command line, with the model `underdog`: `python -m underdog.harness run --model underdog ...`

lm-evaluation-harness (0.4.13) looks for no plug-ins: a model from outside exists once its module is imported.
"""

import sys

from underdog.errors import UnderdogError
from underdog.harness import require_lm_eval


def main() -> None:
    """Run it. What a user can mend is told without a traceback."""
    try:
        require_lm_eval()
        from lm_eval.__main__ import cli_evaluate

        import underdog.harness.lm  # noqa: F401 - registers the model

        cli_evaluate()
    except UnderdogError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
