"""Builds `stages/<name>.sif`: `make images`, or `python apptainer/build.py track detect`.

Two bases hold Python and the pinned packages, with torch and without; a stage's image is a base, that stage's code,
common/ and the configurations. An image whose inputs are as they were when it was built is left alone.

GHOSTTRACK_IMAGE_BASE says where Python comes from: `docker://python:3.11-slim` (the default; needs an image registry),
`debootstrap` (Debian packages alone; needs root) or the path of an image or root folder that has a python3 of that version.
GHOSTTRACK_IMAGE_CACHE is the folder for bases and wheels, `build/images` unless given.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from ghosttrack.common.engine.image import inputs_of
from ghosttrack.orchestrate.container import is_restricted_root

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11"
DEBIAN = "bookworm"
"""The Debian release whose python3 is PYTHON."""
BASE_SQUASHFS = "-comp zstd -Xcompression-level 1"
STAGE_SQUASHFS = "-comp zstd -Xcompression-level 3"
"""Bases are only built upon, so that time counts; stages are kept and moved. Level 9 is 1 % smaller and takes 1.4 times as long."""
TORCH = "torch.lock"
"""Alone without digests: indices serve builds of their own under one version, CUDA or CPU, as the site has it."""
LOCKS = {"torch": (TORCH, "requirements.lock", "requirements-nodeps.lock"), "slim": ("slim.lock",)}
OWN_BUILDS = ("torch-", "nvidia_", "cuda_", "triton-")
"""Files that torch's build brings."""
SBOM = "sbom.cdx.json"


class BuildError(Exception):
    """Why there is no image, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    known = sorted(path.parent.name for path in ROOT.glob("stages/*/contract.yaml"))
    parser = argparse.ArgumentParser(prog="make images", description="Build the images of the stages.")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"some of {', '.join(known)}; all if none")
    parser.add_argument("--force", action="store_true", help="build anew what is up to date, too")
    parser.add_argument(
        "--sbom", metavar="FOLDER", type=Path, help="only write what the images are made of, as CycloneDX"
    )
    options = parser.parse_args(arguments)
    try:
        if options.sbom:
            for kind in LOCKS:
                write_sbom(kind, options.sbom / f"image-{kind}.cdx.json")
            return 0
        if unknown := sorted(set(options.stages) - set(known)):
            raise BuildError(f"there is no stage {unknown[0]!r}; there are {', '.join(known)}")
        if shutil.which("apptainer") is None:
            raise BuildError("apptainer is not installed; images need Apptainer 1.2 or newer")
        builder = ImageBuilder(force=options.force)
        for stage in options.stages or known:
            builder.stage(stage)
    except BuildError as error:
        print(f"images: error: {error}", file=sys.stderr)
        return 1
    return 0


class ImageBuilder:
    """Builds images, each base at most once."""

    def __init__(self, force: bool = False) -> None:
        self.force = force
        self.cache = Path(os.environ.get("GHOSTTRACK_IMAGE_CACHE") or ROOT / "build/images").resolve()
        self.cache.mkdir(parents=True, exist_ok=True)
        self.source = os.environ.get("GHOSTTRACK_IMAGE_BASE") or f"docker://python:{PYTHON}-slim"

    def stage(self, stage: str) -> Path:
        """Build one stage's image if it isn't up to date."""
        files = code_files(stage)
        contract = yaml.safe_load(files[f"stages/{stage}/contract.yaml"])
        recipe = self.recipe(files, contract)
        kind, inputs, image = str(recipe["kind"]), digest(recipe), ROOT / "stages" / f"{stage}.sif"
        if not self.force and inputs_of(image) == inputs:
            say(f"{image.relative_to(ROOT)}: up to date")
            return image
        base = self.base(kind)
        facts = {
            "stage": stage,
            "version": version(),
            "revision": revision(files),
            "contract": str(contract["version"]),
            "lockfile": lockfile_digest(kind),
            "inputs": inputs,
        }
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            code = Path(folder, "ghosttrack")
            for name, content in {**files, "image.json": json.dumps(facts, indent=1).encode()}.items():
                path = code / in_image(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            (code / "entrypoint.sh").chmod(0o755)
            variables = {**facts, "base": str(base), "code": str(code)}
            self.build(image, "apptainer/stage.def", STAGE_SQUASHFS, variables)
        return image

    def recipe(self, files: Mapping[str, bytes], contract: Mapping[str, object]) -> dict[str, object]:
        """All that a stage's image is made from. files: its `code_files`."""
        kind = "torch" if contract.get("torch") else "slim"
        return {
            "kind": kind,
            "base": self.base_inputs(kind),
            "definition": text("apptainer/stage.def"),
            "squashfs": STAGE_SQUASHFS,
            "code": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }

    def base(self, kind: str) -> Path:
        """Build the base with torch or the slim one, if this machine doesn't have it."""
        inputs = self.base_inputs(kind)
        image = self.cache / f"base-{kind}-{inputs[:12]}.sif"
        if image.exists():
            return image
        wheels = self.wheels(kind)
        bootstrap, origin = self.bootstrap()
        facts = {"bootstrap": bootstrap, "from": origin, "inputs": inputs, "lockfile": lockfile_digest(kind)}
        self.build(image, "apptainer/base.def", BASE_SQUASHFS, facts, "--bind", f"{wheels}:/mnt:ro")
        for old in self.cache.glob(f"base-{kind}-*.sif"):
            if old != image:
                old.unlink()
        return image

    def base_inputs(self, kind: str) -> str:
        """Digest of everything that a base is made from."""
        locks = {name: text(f"containers/{name}") for name in LOCKS[kind]}
        recipe = text("apptainer/base.def")
        return digest([recipe, locks, self.source, BASE_SQUASHFS, PYTHON, platform.machine()])

    def bootstrap(self) -> tuple[str, str]:
        """Apptainer's `Bootstrap:` and `From:` for the chosen source of Python."""
        if self.source.startswith("docker://"):
            return "docker", self.source.removeprefix("docker://")
        if self.source != "debootstrap":
            path = Path(self.source).resolve()
            if not path.exists():
                raise BuildError(
                    f"GHOSTTRACK_IMAGE_BASE: there is no {path}; give a path, docker://… or debootstrap"
                )
            return "localimage", str(path)
        return "localimage", str(self.debian())

    def debian(self) -> Path:
        """A minimal Debian with Python in a folder, from Debian packages alone."""
        folder = self.cache / f"debian-{DEBIAN}"
        if folder.exists():
            return folder
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise BuildError("GHOSTTRACK_IMAGE_BASE=debootstrap needs root and the program debootstrap")
        say(f"{folder.name}: from Debian's packages")
        half = folder.with_suffix(".new")
        shutil.rmtree(half, ignore_errors=True)
        log = self.cache / "debootstrap.log"
        command = ["debootstrap", "--variant=minbase", "--include=python3,ca-certificates", DEBIAN, str(half)]
        self.run(command, log)
        # Apptainer makes its own devices, and may not copy these as an ordinary user.
        for path in (half / "dev").iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.rmtree(half / "var/cache/apt/archives")
        half.rename(folder)
        return folder

    def wheels(self, kind: str) -> Path:
        """The pinned packages as wheels for the image's Python, and this machine's pip to install them with."""
        pins = [line for name in LOCKS[kind] for line in pinned(text(f"containers/{name}"))]
        folder = self.cache / f"wheels-{kind}-{digest([pins, PYTHON, platform.machine()])[:12]}"
        if folder.exists():
            return folder
        say(f"{folder.name}: downloading {len(pins)} packages")
        half = folder.with_suffix(".new")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        machine = platform.machine()
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 4, -1)]
        command = [sys.executable, "-m", "pip", "download", "-q", "--dest", str(half)]
        command += ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"]
        for tag in [*tags, f"manylinux2014_{machine}", f"linux_{machine}"]:
            command += ["--platform", tag]
        chosen = self.cache / "pins.txt"
        chosen.write_text("\n".join(pin.partition(" ")[0] for pin in pins) + "\n")
        for name in LOCKS[kind]:
            if name == TORCH:
                # with dependencies: it chooses its own CUDA libraries; the others are looked at below
                options = ["--constraint", str(chosen), "--requirement", str(ROOT / "containers" / name)]
            else:
                hashed = self.cache / name
                hashed.write_text("\n".join(pinned(text(f"containers/{name}"))) + "\n")
                options = ["--no-deps", "--require-hashes", "--requirement", str(hashed)]
            self.run([*command, *options], self.cache / "pip.log")
        check_digests(half, "\n".join(pins))
        write_sbom(kind, half / SBOM)
        import pip

        shutil.copytree(Path(pip.__file__).parent, half / "pip", ignore=shutil.ignore_patterns("__pycache__"))
        half.rename(folder)
        for old in self.cache.glob(f"wheels-{kind}-*"):
            if old != folder:
                shutil.rmtree(old)
        return folder

    def build(
        self, image: Path, definition: str, squashfs: str, variables: Mapping[str, str], *options: str
    ) -> None:
        """Run apptainer; the image appears under its name only when it is complete and has passed its test."""
        start = time.monotonic()
        half = image.with_name(f".{image.name}.new")
        log = self.cache / f"{image.stem}.log"
        command = ["apptainer", "build", "--force", "--mksquashfs-args", squashfs, *options]
        for name, value in variables.items():
            command += ["--build-arg", f"{name}={value}"]
        command += [str(half), str(ROOT / definition)]
        try:
            self.run(command, log, {"APPTAINER_TMPDIR": str(self.cache)})
            half.replace(image)
        finally:
            half.unlink(missing_ok=True)
        size, seconds = image.stat().st_size / 1e6, time.monotonic() - start
        say(f"{os.path.relpath(image, ROOT)}: {size:.0f} MB, {seconds:.0f} s")

    def run(self, command: list[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        with log.open("w") as output:
            wrapped = run_mapped if command[0] == "apptainer" and is_restricted_root() else subprocess.call
            variables = {**os.environ, **(environment or {})}
            code = wrapped(command, stdout=output, stderr=subprocess.STDOUT, env=variables)
        if code != 0:
            tail = "\n".join(f"  | {line}" for line in log.read_text(errors="replace").splitlines()[-15:])
            hint = ""
            if "docker" in tail or "registry" in tail:
                hint = "\nWithout an image registry: GHOSTTRACK_IMAGE_BASE=debootstrap make images (as root)"
            raise BuildError(f"{command[0]} failed with exit code {code}; {log} says\n{tail}{hint}")


def check_digests(wheels: Path, pins: str) -> None:
    """Raise BuildError for a package's file that is none of those that are pinned, but for torch and what its build brings."""
    for path in sorted(wheels.glob("*.whl")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if f"sha256:{digest}" not in pins and not path.name.startswith(OWN_BUILDS):
            raise BuildError(
                f"{path.name} is none of the files that containers/*.lock name; do not use it; see `make lock`"
            )


def write_sbom(kind: str, path: Path) -> None:
    """What an image of a kind is made of, with digests, as CycloneDX JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pins = "\n".join(pin for name in LOCKS[kind] for pin in pinned(text(f"containers/{name}")))
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible"]
    command += ["--pyproject", "pyproject.toml", "-"]
    done = subprocess.run(command, cwd=ROOT, input=pins + "\n", capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"no bill of materials: {done.stderr.strip()[-300:]}; run make .venv/.installed-dev")
    path.write_text(done.stdout)


def run_mapped(command: list[str], **options: object) -> int:
    """Run a command as root of a new user namespace that has 65,536 users, and so has every capability in it."""
    ready, tell = os.pipe()
    script = f'echo >&{tell}; read -r _; exec "$@" </dev/null {tell}>&-'
    child = subprocess.Popen(
        ["unshare", "--user", "--mount", "bash", "-c", script, "bash", *command],
        stdin=subprocess.PIPE,
        pass_fds=[tell],
        **options,  # type: ignore[call-overload]
    )
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{child.pid}/{kind}").write_text("0 0 65536")
    child.communicate(b"\n")
    return child.returncode


def code_files(stage: str, stages: Path = ROOT / "stages") -> dict[str, bytes]:
    """What a stage's image holds of this repository, by path in the repository; `in_image` says where."""
    patterns = ["common/**/*.py", "config/**/*.yaml", "src/ghosttrack/*.py"]
    found = {path.relative_to(ROOT).as_posix(): path for pattern in patterns for path in ROOT.glob(pattern)}
    found |= {f"stages/{path.relative_to(stages).as_posix()}": path for path in stages.glob(f"{stage}/**/*")}
    files = {
        name: path.read_bytes()
        for name, path in sorted(found.items())
        if path.is_file() and "__pycache__" not in path.parts
    }
    return {**files, "entrypoint.sh": (ROOT / "containers/entrypoint.sh").read_bytes()}


def in_image(name: str) -> str:
    """Where a file of the repository stands in an image: the package is whole there, without links."""
    return name if name == "entrypoint.sh" else f"ghosttrack/{name.removeprefix('src/ghosttrack/')}"


def pinned(lock: str) -> list[str]:
    """The lines of a lock file that count for the image's Python: `name==version --hash=…`."""
    target = {
        "python_version": PYTHON,
        "python_full_version": f"{PYTHON}.0",
    }  # the rest is as on this machine
    found = []
    for line in lock.splitlines():
        what, *hashes = line.partition("#")[0].split(" --hash=")
        if what.strip() and ((wanted := Requirement(what)).marker is None or wanted.marker.evaluate(target)):
            found.append(" ".join([f"{wanted.name}{wanted.specifier}", *(f"--hash={one}" for one in hashes)]))
    return found


def lockfile_digest(kind: str) -> str:
    return hashlib.sha256("".join(text(f"containers/{name}") for name in LOCKS[kind]).encode()).hexdigest()


def version() -> str:
    line = next(line for line in text("pyproject.toml").splitlines() if line.startswith("version"))
    return line.split('"')[1]


def revision(files: Iterable[str]) -> str:
    """The last commit that changed one of these files, with `-dirty` if one differs from it."""
    paths = [name for name in files if (ROOT / name).exists()]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments, "--", *paths], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        commit = git("log", "-1", "--format=%H")
        return f"{commit}-dirty" if git("status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def say(line: str) -> None:
    print(f"images: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
