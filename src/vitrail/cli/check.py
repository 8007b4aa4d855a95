"""`vitrail check`: what is wrong with a data set, before anything runs."""

from vitrail.cli.flags import Data, Switch


def check(*, data: Data, json: Switch = False) -> None:
    """Say what is wrong with a data set, file by file, and change nothing.

    Finds pictures that cannot be read, empty classes, the same picture in two parts, names that differ only in
    case, hidden files, wrong extensions and more. Exits with 1 when something must be put right.

    Args:
        data: an image folder, a CSV or JSONL manifest, a folder of idx files, or scenes: for generated ones.
        json: print one JSON object for each fault.
    """
    from vitrail.cli.screen import print_json_lines
    from vitrail.data.check import check
    from vitrail.errors import DataError

    faults = check(data)
    if json:
        print_json_lines(fault._asdict() for fault in faults)
    else:
        for fault in faults:
            print(f"{fault.path}: {fault.severity}: {fault.reason} [{fault.code}]")
    errors = sum(fault.severity == "error" for fault in faults)
    if errors:
        raise DataError(f"{data}: {errors} of {len(faults)} findings must be put right before training.")
    if not json:
        print(f"{data}: ready to train on{', with the above in mind' if faults else ''}.")
