"""Documents for the task files beside this module: local data files, found as a task file's are, and no hub."""

import os
from pathlib import Path
from typing import Any

from datasets import Dataset

from underdog.settings import Settings
from underdog.task.files import find_file, read_rows


def documents(*, files: dict[str, str], **described: Any) -> dict[str, Dataset]:
    """Read each split's file, looked up here and in the folder that UNDERDOG_DATA names; the rest describes the task.

    Raises DataFileMissing or TaskError. lm-evaluation-harness calls this by name, so the environment is read here.
    """
    del described
    settings = Settings.from_environ(os.environ)
    paths = {split: find_file(name, Path(), settings) for split, name in files.items()}
    return {split: Dataset.from_list([row.values for row in read_rows(path)]) for split, path in paths.items()}
