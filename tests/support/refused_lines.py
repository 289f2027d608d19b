"""The refused lines that a daemon keeps."""

import glob
import json
import os


def kept_in(daemon):
    """The records of refused lines, in their order; what is not yet a whole line is left out."""
    records = []
    for path in sorted(glob.glob(os.path.join(daemon.spool_dir, "aside", "rejects-*.ndjson"))):
        with open(path, "rb") as file:
            for line in file.read().decode(errors="surrogateescape").split("\n")[:-1]:
                records.append(json.loads(line))
    return records
