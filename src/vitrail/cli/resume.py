"""`vitrail resume`: a run that was stopped goes on as if it had not been."""

from vitrail.cli.flags import Source, Word, Workers


def resume(run: Source, *, workers: Workers = None, device: Word = None) -> None:
    """Go on with a run, to the same bytes as if it had never been stopped.

    Args:
        run: its folder, such as runs/classify/flowers5.
        workers: processes that read pictures; any number ends in the same bytes.
        device: cpu, cuda, cuda:1 or mps; the one it began on without it.
    """
    from vitrail.train.start import resume

    resume(run, workers=workers, device=device)
