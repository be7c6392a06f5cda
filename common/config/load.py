"""Reads the typed configuration: one YAML file, checked before anything runs.

Precedence, weakest first: model configuration file, cluster profile, environment
(`EXTRACT_BATCH_SIZE`, `TRAIN_BATCH_SIZE`), `--set key=value`. A key that does not exist is an error
that names the nearest one that does. `docs/structure.md` says which unit depends on which key.
"""

import difflib
import functools
import os
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.config.schema import SIZES, Config, ModelConfig, flattened
from ghosttrack.common.config.yaml_text import parse_yaml
from ghosttrack.common.errors import ConfigError, ModelMismatchError, ModelSourceError
from ghosttrack.common.foreign import in_short
from ghosttrack.common.models.sizes import sizes_of
from ghosttrack.common.models.source import locate
from ghosttrack.common.package import package_folder

COLUMNS = "data.columns."
"""Below it every key is one of our fields."""
STUB = "-stub"
"""What the name of a configuration's stub ends in."""
LONGEST = 1 << 24
"""Bytes of a file."""
CONFIG_FOLDER = package_folder("config")

ENVIRONMENT_KEYS = {
    "EXTRACT_BATCH_SIZE": "extract.batch_size",
    "TRAIN_BATCH_SIZE": "sae_training.batch_size",
    "GHOSTTRACK_ROOT": "paths.root",
}


def environment_overrides() -> list[str]:
    """`key=value` of what environment variables override."""
    given = {key: os.environ.get(variable) for variable, key in ENVIRONMENT_KEYS.items()}
    return [f"{key}={value}" for key, value in given.items() if value]


def load_config(
    name_or_path: str,
    overrides: Iterable[str] = (),
    *,
    cluster: str | None = None,
    environ: Mapping[str, str] | None = None,
    stub: bool = False,
) -> Config:
    """The configuration `config/model_configs/<name>.yaml`, `<name>.yaml` here or a path to a YAML file, with overrides.

    overrides: `key=value` texts, the value in YAML. environ defaults to the process environment.
    model.d_model and model.n_layers are read from the model where they are not given. Raises ConfigError for a missing
    file, bad YAML, an unknown key, a wrong type or a value out of range; ModelSourceError for a model whose sizes are
    needed and cannot be read, ModelMismatchError for sizes that are not those of a model on this machine.
    """
    name_or_path, stub = of_stub(name_or_path, stub)
    path = _find(name_or_path, "model_configs")
    data = {key: value for key, value in _read_yaml(path).items() if value is not None}
    data.setdefault("name", path.stem)
    if cluster is not None:
        for key, value in flattened(load_cluster(cluster).config):
            _assign(data, key, value, f"cluster profile {cluster}")
    if stub:
        for key, value in flattened(_read_yaml(CONFIG_FOLDER / "stub.yaml")):
            _assign(data, key, value, "--stub")
        data["model"].pop("layers", None)
        data["name"] += STUB
    environ = os.environ if environ is None else environ
    given = [
        (key, value, f"environment variable {variable}")
        for variable, key in ENVIRONMENT_KEYS.items()
        if (value := environ.get(variable))
    ]
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--set {text!r} has no value; write --set key=value")
        given.append((key.strip(), value, _short(f"--set {text}")))
    for key, value, source in given:
        _assign(data, key, _parse_value(key, value, source), source)
    if isinstance(data.get("model"), dict):
        data["model"] = with_sizes(data["model"])
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        wrong = ".".join(map(str, error.errors()[0]["loc"]))
        where: Any = path
        if own := [source for key, _, source in given if f"{wrong}.".startswith(f"{key}.")]:
            where = own[-1]
        elif inside := [source for key, _, source in given if key.startswith(wrong)]:
            where = f"{path} with {', '.join(inside)}"  # values that do not fit together
        raise ConfigError(f"{where}: {_describe(error, known_keys())}") from error


def of_stub(name_or_path: str, stub: bool = False) -> tuple[str, bool]:
    """The configuration that is meant, and whether its stub is: `demo-stub`, as its results are called, is `demo --stub`."""
    base = name_or_path.removesuffix(STUB)
    return (base, True) if configured(base) and not configured(name_or_path) else (name_or_path, stub)


def configured(name: str) -> bool:
    """Whether a configuration has this name, among those that come along or as a file here."""
    return name in available_configs() or Path(f"{name}.yaml").is_file()


def given_sizes(name_or_path: str) -> set[str]:
    """Which of SIZES a configuration file gives."""
    model = _read_yaml(_find(name_or_path, "model_configs")).get("model") or {}
    return {key for key in SIZES if model.get(key) is not None}


def with_sizes(model: Mapping[str, Any]) -> dict[str, Any]:
    """The section `model` with the model's own sizes where it gives none. See `load_config` for errors."""
    source = model.get("base_model")
    given = {key: model[key] for key in SIZES if model.get(key) is not None}
    if not isinstance(source, str):
        return dict(model)  # whoever checks the types says so
    try:
        ModelConfig.model_validate({**dict.fromkeys(SIZES, 1), "base_model": source})
    except ValidationError:  # no name of anything
        return dict(model)
    if len(given) == len(SIZES):
        try:
            if locate(source).hub is not None:
                return dict(model)  # `prepare` looks at it
            sizes = sizes_of(source)
        except ModelSourceError:
            return dict(model)  # `prepare` says what is wrong with it; another stage need not have it
    else:
        sizes = sizes_of(source, model.get("revision"))
    real = {key: getattr(sizes, key) for key in SIZES}
    for key, value in given.items():
        if value != real[key]:
            raise ModelMismatchError(
                f"model.{key} = {value}, but {source} has {real[key]}; set model.{key}: {real[key]}, or leave it out"
            )
    return {**model, **real}


def load_cluster(name_or_path: str) -> ClusterProfile:
    """The profile `config/clusters/<name>.yaml`, or that of a path, checked. Raises ConfigError."""
    path = _find(name_or_path, "clusters")
    try:
        return ClusterProfile.model_validate(_read_yaml(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_describe(error, known_keys(ClusterProfile))}") from error


def available_configs() -> list[str]:
    """Names of the model configurations that come with the product."""
    return sorted(path.stem for path in (CONFIG_FOLDER / "model_configs").glob("*.yaml"))


def _find(name_or_path: str, folder: str) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"there is no configuration file {path}")
        return path
    found = CONFIG_FOLDER / folder / f"{name_or_path}.yaml"
    for place in (found, Path(f"{name_or_path}.yaml")):
        if place.is_file():
            return place
    names = sorted(entry.stem for entry in (CONFIG_FOLDER / folder).glob("*.yaml"))
    if not names:
        raise ConfigError(
            f"{found.parent} has no configuration: the installation is not whole, install ghosttrack again"
        )
    what, made = (
        ("cluster profile", "")
        if folder == "clusters"
        else ("configuration", "; `ghosttrack init` writes one for any model")
    )
    raise ConfigError(
        f"there is no {what} {name_or_path!r}{_suggest(name_or_path, names)}; "
        f"there are {', '.join(names)}, or give the path of a .yaml file{made}"
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LONGEST:
            raise ConfigError(
                f"{path} is longer than any configuration, {LONGEST} bytes; is it the file that was meant?"
            )
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {in_short(error)}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, such as `model:`")
    return data


def _parse_value(key: str, text: str, source: str) -> Any:
    """The value of a key in YAML; that of a key that takes text is the text itself, `null` where it may be none, and a list
    `[…]` where it may be one."""
    if key.startswith(COLUMNS):
        return text
    if (kinds := _text_keys().get(key)) and not (list[str] in kinds and text.startswith("[")):
        return None if type(None) in kinds and text == "null" else text
    try:
        return parse_yaml(text, texts=key in _text_list_keys() and text.strip() != "null")
    except ValueError as error:
        raise ConfigError(f"{source}: the value is not valid YAML: {in_short(error)}") from error


@functools.cache
def _text_keys() -> dict[str, tuple[Any, ...]]:
    """Key that takes text, perhaps a list of texts or null too, to the types that it takes."""
    return {
        key: options
        for key, annotation in _annotations(Config)
        for options in [_options(annotation)]
        if any(map(_is_text, options))
        and all(_is_text(option) or option in (type(None), list[str]) for option in options)
    }


@functools.cache
def _text_list_keys() -> frozenset[str]:
    """Keys that take a list of texts, perhaps null too: no element of it is a number, a date or a no."""
    return frozenset(
        key
        for key, annotation in _annotations(Config)
        for option in _options(annotation)
        if get_origin(option) is list and _is_text(get_args(option)[0])
    )


def _options(annotation: Any) -> tuple[Any, ...]:
    """The types that a value may have."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _is_text(kind: Any) -> bool:
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return kind is str or get_origin(kind) is Literal


def _assign(data: dict[str, Any], key: str, value: Any, source: str) -> None:
    known = list(known_keys())
    if key not in known and not key.startswith(COLUMNS):
        raise ConfigError(f"{source}: there is no key {key!r}{_suggest(key, known)}")
    put(data, key, value)


def put(data: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key. What stands where a section should be gives way."""
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(data.get(section), dict):
            data[section] = {}
        data = data[section]
    data[last] = value


def known_keys(model: type[BaseModel] = Config) -> Iterable[str]:
    """Every dotted key of the configuration, such as `sae_training.batch_size`."""
    return (key for key, _ in _annotations(model))


def _annotations(model: type[BaseModel], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _annotations(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", annotation


def _suggest(key: str, known: Iterable[str]) -> str:
    """` (did you mean X?)`: the nearest full key, or the key whose last part is nearest."""
    known = list(known)
    begun = [name for name in known if name.startswith(key)]
    nearest = begun[:1] or difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    if not nearest:
        tails = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
        tail = difflib.get_close_matches(key.rsplit(".", 1)[-1], tails, n=1, cutoff=0.7)
        nearest = [tails[tail[0]]] if tail else []
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def _describe(error: ValidationError, known: Iterable[str]) -> str:
    known = list(known)
    messages = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            messages.append(f"there is no key {key!r}{_suggest(key, known)}")
        elif item["type"] == "missing":
            messages.append(f"the key {key!r} is missing")
        else:
            reason = item["msg"].removeprefix("Value error, ")
            reason = reason[:1].lower() + reason[1:]
            shown = "" if isinstance(item["input"], dict) else f" = {_short(repr(item['input']))}"
            messages.append(f"{key}{shown}: {reason}" if key else reason)
    return "; ".join(messages)


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]} …"
