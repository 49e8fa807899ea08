"""``cyberimage generate`` and ``replay``: jobs whose images are written to files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from deployments.storage.formats import format_of_file
from serve.cli.client import DEFAULT_URL, Client, JobStatus, ServiceError
from serve.cli.inputs import read_loras, upload_pictures
from serve.cli.jobs import follow
from serve.cli.session import INTERRUPTED, WRONG_USE, ApiKey, Quiet, Url, fail, service


def generate(  # noqa: PLR0913, PLR0917 - typer makes options of parameters
    prompt: Annotated[str, typer.Argument(help="What the image shows.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The file to write: .png, .webp, .jpg or .avif; several images become out-1.png, out-2.png.",
        ),
    ] = Path("out.png"),
    quality: Annotated[int | None, typer.Option(min=1, max=100, help="Of WebP, JPEG and AVIF.")] = None,
    model: Annotated[str | None, typer.Option(help="Model id; the service's default where left out.")] = None,
    negative: Annotated[str, typer.Option(help="What the image should not show.")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely the image follows the prompt.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Pixels.")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Pixels.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same image.")] = None,
    num_images: Annotated[int, typer.Option("--num-images", "-n", min=1, help="How many images.")] = 1,
    image: Annotated[Path | None, typer.Option(help="A picture to start from: PNG, JPEG or WebP.")] = None,
    mask: Annotated[Path | None, typer.Option(help="A picture of the same size; white parts are repainted.")] = None,
    strength: Annotated[float | None, typer.Option(help="How much of the picture is drawn anew, 0 to 1.")] = None,
    control_image: Annotated[Path | None, typer.Option(help="A picture for the model's ControlNet.")] = None,
    lora: Annotated[list[str] | None, typer.Option(metavar="NAME[:SCALE]", help="A LoRA; may be repeated.")] = None,
    quiet: Quiet = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Generate images from PROMPT and write them to files. Ctrl-C cancels the job."""
    paths = output_paths(output, num_images)
    for path in paths:
        _require_writable(path)
    settings = {
        "num_images": num_images,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "width": width,
        "height": height,
        "seed": seed,
        "strength": strength,
        "output_format": format_of_file(output.name),
        "quality": quality,
        "loras": read_loras(lora or []),
    }
    with service(url, api_key) as client:
        inputs = upload_pictures(client, {"image": image, "mask": mask, "control_image": control_image})
        job_id = client.generate(model or _default_model(client), prompt, negative, inputs=inputs, **settings)
        _fetch_images(client, job_id, paths, quiet=quiet)


def replay(
    image_id: Annotated[str, typer.Argument(help="The image's id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("out.png"),
    quiet: Quiet = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Make an image again from its recorded parameters and seed. Ctrl-C cancels the job."""
    _require_writable(output)
    with service(url, api_key) as client:
        _fetch_images(client, client.replay(image_id), [output], quiet=quiet)


def output_paths(output: Path, count: int) -> list[Path]:
    """Name the files for ``count`` images: ``out.png`` for one, ``out-1.png``, ``out-2.png`` and so on for several."""
    if count == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, count + 1)]


def _require_writable(path: Path) -> None:
    """End the command where ``path`` cannot be written; trying it is the only check that is right everywhere."""
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except (OSError, ValueError) as error:
        fail(f"Cannot write {path}: {getattr(error, 'strerror', None) or error}", WRONG_USE)


def _fetch_images(client: Client, job_id: str, paths: Sequence[Path], *, quiet: bool) -> None:
    """Wait for a job and write its images to files."""
    status = _wait(client, job_id, quiet=quiet)
    _require_images(status, len(paths))
    for path, image_id in zip(paths, status.image_ids, strict=True):
        _write(path, client.patiently(partial(client.image, image_id)))
    if not quiet:
        for path in paths:
            typer.echo(path)
        if "seed" in status.settings:
            typer.echo(f"seed {status.settings['seed']}", err=True)


def _wait(client: Client, job_id: str, *, quiet: bool) -> JobStatus:
    """Show the job's progress until it ends; Ctrl-C cancels it on the service."""
    try:
        return follow(client, job_id, quiet=quiet)
    except KeyboardInterrupt:
        _cancel_interrupted(client, job_id)


def _cancel_interrupted(client: Client, job_id: str) -> NoReturn:
    try:
        client.cancel(job_id)
    except ServiceError as error:
        fail(f"Interrupted, but job {job_id} could not be cancelled: {error}", INTERRUPTED)
    typer.echo(f"Interrupted: job {job_id} is cancelled on the service", err=True)
    raise typer.Exit(INTERRUPTED)


def _require_images(job: JobStatus, count: int) -> None:
    if job.state == "failed":
        fail(job.message or f"Job {job.id} failed")
    if job.state == "cancelled":
        fail(job.message or f"Job {job.id} was cancelled")
    if len(job.image_ids) != count:
        fail(f"Job {job.id} was to make {count} images, and has {len(job.image_ids)}")


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        fail(f"Cannot write {path}: {error.strerror}")


def _default_model(client: Client) -> str:
    default = client.models().get("default")
    if not default:
        fail("The service names no default model; give one with --model")
    return str(default)
