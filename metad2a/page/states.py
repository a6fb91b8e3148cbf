"""What the page says when there is nothing to show yet, something went wrong, or a job runs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from metad2a.page.bench import Running, Waiting
from metad2a.page.charts import curves
from metad2a.settings import LIMITS

EMPTY = """<div class="m2 empty"><h2>Find a network for your images</h2>
<p>Drop a zip or a tar with one folder of images per class. Within seconds you get a short list of
neural networks that are expected to do best on <em>your</em> images, with what each costs; within
minutes one of them, trained and ready to use.</p>
<div class="steps">
<div><b>1</b><h3>Sort</h3><p>Put the images of each class into a folder of its own.</p>
<pre>flowers.zip
├─ daisy/  1.jpg  2.jpg  …
├─ rose/   1.jpg  2.jpg  …
└─ tulip/  1.jpg  2.jpg  …</pre></div>
<div><b>2</b><h3>Drop</h3><p>Upload the file, or start with one of the examples. You see at once
what was read, and every file that could not be.</p></div>
<div><b>3</b><h3>Train</h3><p>Compare accuracy with size and speed, set your limits, train for the
minutes that you have, try your own pictures, and take the network along: weights, plain PyTorch code
and ONNX in one folder.</p></div>
</div></div>"""

GOES_ON = "m2-goes-on"
"""The class by which the page knows that there is more to look at."""
_PRIVACY = (
    "<p>Files stay on this server, are seen by nobody else and deleted after an hour. Until then the "
    "address of this page brings everything back, a training that runs too; whoever you give it to "
    "sees it as you do.</p>"
)
_STAGES = {
    "starting": "Starting",
    "reading": "Reading the images",
    "reading images": "Reading the images",
    "looking at the images": "Looking at the images",
    "fitting the classifier": "Fitting the classifier",
    "training": "Training",
    "judging": "Judging by the test images",
    "comparing": "Comparing the networks",
    "stopping": "Stopping with what there is; cancel again to end without",
    "saving": "Writing the folder",
}


def may_be_given() -> str:
    """Say before an upload what may be uploaded, and what becomes of it."""
    return (
        f"<p>At most {LIMITS.upload_bytes / 1e6:,.0f} MB and {LIMITS.archive_members:,} files; "
        f"{LIMITS.min_classes} to {LIMITS.max_classes:,} classes of {LIMITS.min_class_images} pictures or "
        f"more; pictures (JPEG, PNG, WebP, BMP, GIF, TIFF) of {LIMITS.min_side} to "
        f"{LIMITS.max_side:,} pixels a side and up to {LIMITS.member_bytes / 1e6:.0f} MB. Parquet files "
        f"of images are read too.</p>{_PRIVACY}"
    )


def reading(name: str) -> str:
    """Return what is shown while a dataset is read."""
    return (
        '<div class="m2 busy" role="status"><i class="spin"></i><div>'
        f"<b>Reading {escape(name)}</b><p>Looking at the images and comparing networks. "
        "This takes some seconds.</p></div></div>"
    )


def problem(title: str, message: str) -> str:
    """Return what is shown in the place of an answer."""
    return (
        f'<div class="m2 problem" role="alert"><b>{escape(title)}</b><p>{escape(message)}</p></div>'
    )


def note(message: str) -> str:
    """Return a quiet remark."""
    return f'<div class="m2 note" role="status"><p>{escape(message)}</p></div>'


def going_on(job: Waiting | Running | None) -> str:
    """Return how a job stands, None before it knows, and that it is not at its end."""
    if job is None:
        told = note("Starting.")
    else:
        told = waiting(job) if isinstance(job, Waiting) else running(job)
    return f'<div class="{GOES_ON}">{told}</div>'


def waiting(place: Waiting) -> str:
    """Return a place in the line and when the turn comes."""
    ahead = "1 job is" if place.place == 1 else f"{place.place} jobs are"
    return (
        '<div class="m2 busy" role="status"><i class="spin"></i><div><b>Waiting in line</b>'
        f"<p>{ahead} before yours. It begins in about {_span(place.seconds)}. You can leave "
        "the line with Cancel.</p></div></div>"
    )


def running(job: Running) -> str:
    """Return a progress bar, and the learning curves where the job has some."""
    percent = 100 * job.fraction
    accuracy = curves([("", job.curve)], "epochs", "accuracy, %")
    loss = curves(
        [("", [(100 * share, loss) for share, loss in job.losses])],
        "% of the time",
        "error in training (loss)",
        percent=False,
    )
    figures = "".join(f"<figure>{drawing}</figure>" for drawing in (accuracy, loss) if drawing)
    about = "about" if job.surely else "at most"
    # A job that just starts, or is late, says nothing of the time rather than what is not true.
    told = job.left >= 1 and job.stage not in ("starting", "reading", "stopping")
    left = f"{about} {_span(job.left)} left" if told else ""
    return (
        f'<div class="m2 job" role="status"><div class="line"><b>{escape(_stage(job))}</b>'
        f"<span>{left}</span></div>"
        f'<div class="track" role="progressbar" aria-valuenow="{percent:.0f}" aria-valuemin="0" '
        f'aria-valuemax="100"><i style="width:{percent:.1f}%"></i></div>{_so_far(job)}'
        f'<div class="pair">{figures}</div></div>'
    )


def _stage(job: Running) -> str:
    """Say what a job does."""
    if job.stage in _STAGES:
        return _STAGES[job.stage]
    # The stages of a search bear the names of its method's parts, which tell a visitor nothing.
    return job.stage.capitalize() if job.stage.startswith("training") else "Searching"


def _so_far(job: Running) -> str:
    """Say in numbers how far a training is."""
    told = []
    if job.epochs:
        told.append(f"epoch {job.epoch:.1f} of {job.epochs:.1f}")
    if job.losses and job.epochs:
        told.append(f"loss {job.losses[-1][1]:.2f}")
    if job.curve:
        told.append(f"{job.curve[-1][1]:.1f}\u00a0% right so far, on images held out")
    return f'<p class="more">{", ".join(told)}</p>' if told else ""


def learnt(lines: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return the learning curves of trained networks: percent, at each reading."""
    drawing = curves(
        [(label, list(enumerate(line, start=1))) for label, line in lines],
        "time judged",
        "accuracy, %",
    )
    if not drawing:
        return ""
    return (
        '<div class="m2"><figure class="card"><figcaption><b>How they learnt</b>Accuracy on '
        "images held out, each time that the training was judged; the numbers are the ranks."
        f"</figcaption>{drawing}</figure></div>"
    )


def _span(seconds: float) -> str:
    """Say a time as people do."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
