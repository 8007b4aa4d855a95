"""`vitrail doctor`: is this machine ready, and what to type if it is not."""

from vitrail.cli.flags import Switch


def doctor(*, json: Switch = False) -> None:
    """Examine this machine: versions, image decoders, processor, threads, GPU, hub, room.

    Changes nothing and asks no network. Exits with 1 when something that vitrail needs is missing.

    Args:
        json: print one JSON object for each finding.
    """
    from vitrail.cli.screen import print_json_lines, table
    from vitrail.environment import examine
    from vitrail.errors import VitrailError

    findings = examine()
    if json:
        print_json_lines(finding._asdict() for finding in findings)
    else:
        table(("", "found", "what to type"), [(f.subject, f.found, f.advice) for f in findings])
    missing = [finding.subject for finding in findings if finding.needed]
    if not missing and not json:
        print("Everything that vitrail needs is here.")
    if missing:
        raise VitrailError(f"vitrail cannot work yet: {', '.join(missing)}. The last column says what to type.")
