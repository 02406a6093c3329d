"""Write small image folders and manifests, and build experiments on them."""

from pathlib import Path

from PIL import Image

from reidray.cli.arguments import job_flags, parse_arguments
from reidray.cli.messages import naming_flags
from reidray.config import TrainMultitaskConfig, TrainReidConfig
from reidray.training.experiment import Experiment
from reidray.training.orchestration import build_experiment


def save_image(file: Path, level: int) -> None:
    """Save an image of 8 x 16 pixels in one colour."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 16), (level % 256, level * 7 % 256, 0)).save(file)


def write_person_folders(root: Path, people: int, cameras: int = 2) -> Path:
    """Make a folder for each person, with four images from so many cameras, 0 for no camera."""
    for person in range(1, people + 1):
        for image in range(4):
            camera = f"_c{1 + image % cameras}" if cameras else "x"
            save_image(root / f"{person}" / f"{person:04d}{camera}_{image}.png", 11 * person)
    return root


def write_manifest(root: Path, header: str, rows: list[str]) -> Path:
    """Make a manifest of these lines, whose first column is the path, and its images."""
    for number, row in enumerate(rows):
        save_image(root / row.partition(",")[0], number)
    (root / "set.csv").write_text("\n".join([header, *rows]) + "\n")
    return root / "set.csv"


def write_attribute_manifest(root: Path, people: int, *, val: str = "male") -> Path:
    """Make a manifest of people with their gender, and two validation people with this one."""
    rows = [
        f"{person}_{image}.png,train,{person},{1 + image % 2},{('male', 'female')[person % 2]}"
        for person in range(1, people + 1)
        for image in range(4)
    ]
    rows += [f"v{p}_{image}.png,val,{p},{image},{val}" for p in (901, 902) for image in (1, 2)]
    return write_manifest(root, "path,split,person,camera,attr_gender", rows)


def write_class_manifest(root: Path, each: int) -> Path:
    """Make a manifest of three classes with so many images each, and no masks."""
    rows = [f"{name}_{image}.png,train,{name}" for name in "abc" for image in range(each)]
    return write_manifest(root, "path,split,label", rows)


def reid_experiment(data: Path, *flags: str) -> Experiment:
    """Prepare a training on people as the job does."""
    output = data.with_name("run")
    arguments = ["--data", str(data), "--output", str(output), *flags]
    asked = parse_arguments(TrainReidConfig, arguments)
    with naming_flags(job_flags(TrainReidConfig)):
        return build_experiment(asked.config, sources=asked.sources)


def multitask_experiment(data: Path, *flags: str) -> Experiment:
    """Prepare a multi-task training as the job does."""
    output = data.with_name("run")
    arguments = ["--data", str(data), "--output", str(output), *flags]
    asked = parse_arguments(TrainMultitaskConfig, arguments)
    with naming_flags(job_flags(TrainMultitaskConfig)):
        return build_experiment(asked.config, sources=asked.sources)
