"""The typed configuration: every section and key, with its type, bounds and description.

`docs/MODEL_CONFIGS.md` is made from the descriptions. Unknown keys are errors, values do not change.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ghosttrack.common.errors import ConfigError
from ghosttrack.common.files import as_path, root_folder
from ghosttrack.common.formats.ladder import ASSOCIATORS, Associator


class Section(BaseModel):
    """The base of everything that a user writes in YAML. A field's docstring is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
    free_text: ClassVar[frozenset[str]] = frozenset()
    """Fields whose texts may have several lines."""
    naming_files: ClassVar[frozenset[str]] = frozenset()
    """Fields that may name a file."""

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, data: Any) -> Any:
        for name, value in data.items() if isinstance(data, Mapping) else ():
            kind = cls.model_fields[name].annotation if name in cls.model_fields else bool
            values = value if isinstance(value, list) else [value]
            if kind is not bool and any(isinstance(each, bool) for each in values):
                raise ValueError(f"{name} = {value} is a yes or no, which it does not take")
        return data

    @model_validator(mode="after")
    def _is_plain(self) -> "Section":
        """Every text in one line, every number one that can mean something: texts get into scripts, numbers into sums."""
        for name in type(self).model_fields:
            for value in _scalars(getattr(self, name, None)):
                if isinstance(value, str):
                    refuse_control_characters(name, value, "\n\t" if name in self.free_text else "")
                    if name in self.naming_files and any(
                        len(part.encode()) > LONGEST_NAME for part in value.split("/")
                    ):
                        raise ValueError(
                            f"{name} has a part longer than a file's name can be ({LONGEST_NAME} bytes)"
                        )
                    if (
                        name in self.naming_files
                        and os.path.expanduser(value).startswith("~")
                        and not os.path.exists(value)
                    ):
                        raise ValueError(
                            f"{name} begins with {value.partition('/')[0]!r}, and there is no such user"
                        )
                elif isinstance(value, (int, float)) and abs(value) > LARGEST:
                    raise ValueError(f"{name} is larger than anything that it can mean ({LARGEST:g})")
        return self


LARGEST = 10**15
LONGEST_TEXT = 65_536
LONGEST_NAME = 255


def refuse_control_characters(name: str, text: str, allowed: str = "") -> None:
    """Raise ValueError for a text with a line break or another character that does not print as itself."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{name} has {len(text)} characters; {LONGEST_TEXT} are the most")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in allowed:
            raise ValueError(
                f"{name} holds the control character {character!r}; write it in one line without it"
            )


def _scalars(value: object) -> Iterator[object]:
    """The texts and numbers of a field, but for those of a section in it, which looks at its own."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _scalars(inner)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from _scalars(inner)
    else:
        yield value


MOST_LAYERS = 10_000


def parse_layers(value: object) -> object:
    """Layer numbers from `"0-5,8"`, an integer or a list; sorted, without repeats. None passes through."""
    if value is None:
        return value
    if isinstance(value, list):
        return sorted(set(value)) if all(isinstance(layer, int) for layer in value) else value
    layers: set[int] = set()
    for part in str(value).split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:\s*-\s*(\d{1,4}))?\s*", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError(f"{value!r} is not a list of layers; write for example 0-5 or 0-5,8")
        layers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(layers)


def describe_layers(layers: Iterable[int]) -> str:
    """`0-5,8` for [0, 1, 2, 3, 4, 5, 8]."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


LayerList = Annotated[list[Annotated[int, Field(ge=0, lt=MOST_LAYERS)]], BeforeValidator(parse_layers)]


def flattened(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in sections of sections."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class PathsConfig(Section):
    naming_files = frozenset({"root"})
    root: str = Field(".", min_length=1, max_length=1000)
    """Folder under which data/, models/ and results/ appear."""

    @field_validator("root")
    @classmethod
    def _is_a_folder(cls, value: str) -> str:
        try:
            root_folder(value)
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("paths.root: ")) from error
        return value


SIZES = ("d_model", "n_layers")
"""Keys of `model` that the model itself knows, so that they need not be given."""


def _not_required(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema["required"] if name not in SIZES]


class ModelConfig(Section):
    model_config = ConfigDict(json_schema_extra=_not_required)
    naming_files = frozenset({"base_model", "chat"})
    free_text = frozenset({"system"})

    base_model: str
    """Hub id, local folder or `.gguf` file, `package:<distribution>/<file.gguf>`, or `miniature` (a tiny model
    fitted on the spot, for stub runs)."""
    revision: str | None = None
    """Hub revision; null takes the default branch."""
    d_model: int = Field(gt=0, le=1 << 20)
    """Width of the residual stream; where it is not given, read from the model, else checked against it."""
    n_layers: int = Field(gt=0, le=MOST_LAYERS)
    """Number of blocks; where it is not given, read from the model, else checked against it."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether texts begin with the BOS token; auto: as the tokenizer has it, unless the other way predicts prose
    better by more than 0.05 nats a token."""
    chat: str = Field("auto", min_length=1)
    """How questions are put. auto: as a turn of a conversation, by the chat template of the model's tokenizer where
    it has one; none: as `Q: …` and `A:`; else the path of a template file. Sentences to complete are never
    turns."""
    system: str | None = Field(None, min_length=1)
    """System prompt of a conversation; null leaves it to the template."""
    layers: LayerList | None = None
    """Blocks to study, such as `0-5` or `[0, 2, 4]`; null takes all."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the language model's forward pass; auto: bfloat16 on a GPU that has it, else float32."""
    devices: Literal["auto", "one"] = "auto"
    """auto: a model that has no room on one GPU is spread over all that a process sees; one: never."""
    offload: Literal["none", "memory", "disk"] = "none"
    """Where blocks lie for which GPUs have no room, to be brought there when it is their turn: main memory, or with
    disk what memory cannot hold too (that of a machine without a GPU as well). Slow, and the same result."""

    @property
    def loading(self) -> dict[str, str]:
        """What `load_language_model` takes."""
        return {"dtype": self.dtype, "devices": self.devices, "offload": self.offload}

    @model_validator(mode="after")
    def _layers_exist(self) -> "ModelConfig":
        if self.layers is not None and (not self.layers or self.layers[-1] >= self.n_layers):
            raise ValueError(
                f"layers {self.layers} do not fit a model of {self.n_layers} layers; "
                f"choose from 0-{self.n_layers - 1}"
            )
        return self


class DataConfig(Section):
    naming_files = frozenset({"questions", "corpus", "asked", "judge"})

    questions: str = "factbook"
    """`factbook` (sentences to complete), `factbook-questions` (the same facts asked for), `factbook-profiles` (ten
    of them in one long answer), a file (.jsonl, .json, .csv, .tsv, .parquet, .arrow, or one of them with .gz), a
    folder that `datasets` reads, or `hub:<dataset>`."""
    questions_config: str | None = None
    """Configuration name of the hub dataset."""
    questions_split: str = "validation"
    """Split of the hub dataset."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our field (question or prompt, answer, aliases, id, relation, subject, passage, choices, response, label,
    spans) to the column of the questions' file or dataset, nested ones as `answer.value`. Fields not listed are
    taken from the column of their name; well-known data sets need none, and other columns are guessed and told."""
    corpus: str = "factbook"
    """`factbook`, a path to .txt or .jsonl, or `hub:<dataset>`."""
    corpus_config: str | None = None
    """Configuration name of the hub dataset."""
    corpus_split: str = "train"
    """Split of the hub dataset."""
    corpus_column: str = "text"
    """Column or JSON field that holds the text."""
    max_tokens: int = Field(1_000_000, gt=0)
    """Tokens of the corpus, prompts included."""
    held_out_fraction: float = Field(0.1, gt=0, lt=1)
    """Fraction of documents never trained on, for SAE quality."""
    prompt_fraction: float = Field(0.2, ge=0, lt=1)
    """Fraction of the corpus tokens that are unlabelled question prompts."""
    max_questions: int | None = Field(None, gt=0)
    """Questions asked; null asks all."""
    shots: int = Field(4, ge=0)
    """Worked examples of the same relation before each question."""
    relations: list[str] | None = None
    """Relations to ask about; null asks all."""
    matching: Literal["auto", "exact", "contains", "number", "choice", "yes_no", "f1", "label", "judge"] = (
        "auto"
    )
    """When an answer counts as right. auto: by the file's label where a row has one, else by the kind of the right
    answer (option, yes or no, number, date, name); exact: nothing else is said; contains: a right answer in whole
    words, not denied; number: by value and unit; choice: the option's letter or text; yes_no; f1: half of the words
    in common; label: by the file's label alone; judge: as the model of data.judge says, asked by a fixed prompt."""
    judge: str | None = None
    """Model that judges with data.matching: judge, named as model.base_model; null asks the model under study."""
    asked: str | None = None
    """Path of a file of new questions, which the stored detector scores; `ghosttrack score` sets it."""


class ExtractConfig(Section):
    batch_size: int = Field(16, gt=0)
    """Rows a forward pass; does not change the result's meaning."""
    max_length: int = Field(512, gt=1)
    """Tokens a row."""
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    """Storage type of hidden states; auto: float16 where a layer's states leave room in it, else bfloat16; int8 has
    a scale a row. Those of answers are float16 where all fit, float32 otherwise and for float32 and bfloat16."""
    layers_per_wave: int | None = Field(None, gt=0)
    """Layers whose states one forward pass writes; null takes all in one. Smaller waves need less disk at a time,
    and a forward pass each."""
    max_disk_gb: float | None = Field(None, gt=0)
    """Most GB (10⁹ bytes) of hidden states on disk at a time. Where all waves together take more, a wave's states
    are removed once the SAEs trained on them verify; null: no bound."""
    num_workers: int = Field(8, gt=0, le=1024)
    """Threads that bring the files of a shard to the disk. Does not change the result's meaning."""
    shard_rows: int = Field(32, gt=0)
    """Rows between two points at which a killed run can resume."""


class SaeConfig(Section):
    naming_files = frozenset({"pretrained", "pretrained_independent"})

    d_hidden: int = Field(gt=0, le=1 << 26)
    """Number of latents."""
    target_l0: float = Field(64, ge=1)
    """Mean number of active latents a token, held out."""
    shared_base: bool = True
    """Fine-tune each layer from one SAE trained on all layers; false trains each alone."""
    independent_twin: bool = False
    """Also train each layer's SAE apart, for the ablation; means nothing without sae.shared_base, and with
    sae.pretrained it is sae.pretrained_independent that counts."""
    pretrained: str | None = None
    """SAEs to take instead of training, such as `saes/layer_{layer}`: folders of SAELens, Gemma Scope (or its .npz)
    or Llama Scope, or `release:<release>/<SAE id>` of SAELens' directory; then no states are extracted either.
    Those of fewer latents than sae.d_hidden are filled up with dead ones. null trains."""
    pretrained_independent: str | None = None
    """The same of SAEs that were trained apart, for the ablation, such as `saes/independent_{layer}`; means nothing
    without sae.pretrained."""

    def pretrained_folder(self, layer: int, independent: bool = False) -> Path:
        """Where the SAELens SAE of a layer is; only with `pretrained`, and `pretrained_independent`."""
        folders = self.pretrained_independent if independent else self.pretrained
        return as_path(str(folders).replace("{layer}", str(layer)))

    @field_validator("pretrained", "pretrained_independent")
    @classmethod
    def _names_a_folder_for_each_layer(cls, value: str | None) -> str | None:
        if value is not None and "{layer}" not in value:
            raise ValueError(
                "it must hold {layer}, which stands for a layer's number; write saes/layer_{layer}"
            )
        return value

    @model_validator(mode="after")
    def _target_fits(self) -> "SaeConfig":
        if self.target_l0 > self.d_hidden:
            raise ValueError(
                f"target_l0 {self.target_l0} is more than the {self.d_hidden} latents of d_hidden"
            )
        return self


class SaeTrainingConfig(Section):
    batch_size: int = Field(4096, gt=0)
    """Tokens a step."""
    epochs: float = Field(20, gt=0, le=1e6)
    """Passes over a layer's training tokens."""
    base_epochs: float = Field(1, gt=0, le=1e6)
    """Passes of the shared base over its pooled sample."""
    base_tokens_per_layer: int = Field(100_000, gt=0)
    """Most tokens a layer gives to the pooled sample of the shared base."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate of Adam."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the encoder's product; auto: bfloat16 where the processor has instructions for it. All else is
    float32."""
    layers_together: int = Field(1, gt=0)
    """Layers that one process trains side by side; worth it on a GPU that small batches leave idle. Does not change
    the result's meaning."""
    log_with: Literal["none", "trackio", "wandb", "tensorboard", "mlflow"] = "none"
    """Where training curves are also sent while they grow; the package of that name must be there (TensorBoard: its
    files under runs/<name>/curves). Does not change the result."""
    splice_tokens: int = Field(4096, ge=3)
    """Held-out tokens that the model reads with SAEs in it, to measure the loss recovered."""


class TrackingConfig(Section):
    free_text = frozenset({"stop"})

    max_new_tokens: int = Field(12, gt=0)
    """Longest answer, in tokens."""
    stop: list[Annotated[str, Field(min_length=1)]] | None = None
    """Texts that end an answer, as the model's end tokens do, and are not of it; [] leaves the end to the model.
    null: a line break, and in a chat none."""
    batch_size: int = Field(64, gt=0)
    """Questions answered at a time."""
    shard_questions: int = Field(128, gt=0)
    """Questions between two points at which a killed run can resume."""
    candidates: int = Field(16, ge=2)
    """Likeliest next tokens a position that are kept, between which the tracks compete."""
    contexts: int = Field(4, ge=0)
    """Other worked examples (or framings) after which every answer is read again; their mean says how sure the
    model is when it did not choose the answer there. 0 leaves them out."""
    top_k_features: int = Field(50, gt=0)
    """Strongest active latents a layer that are tracked."""
    fit_tokens: int = Field(16_384, ge=64)
    """Tokens of held-out text to which the association model is fitted."""
    associator: Literal["nearest", "marginals", "hypotheses"] = "marginals"
    """What makes the published tracks: global nearest neighbour, joint probabilistic marginals, or multiple
    hypotheses."""
    ladder: list[Associator] = list(ASSOCIATORS)
    """Associators whose tracks are written beside them, to be compared: no association, random with the same births
    and lengths, same number of latent, and the three real ones."""
    clusters: int = Field(32, gt=1)
    """Semantic clusters of tracks."""
    causes: int = Field(400, ge=0)
    """Questions of which the decisive tracks are taken out of the model, to see what it then says; three of four
    with a wrong answer. About a second each on two cores with a model of 135 M parameters."""
    strongest_tracks: int = Field(12, gt=0)
    """Tracks a position written to hypothesis_trajectories.json; tracks.parquet has all."""

    def stops(self, chat: bool) -> list[str]:
        """The texts that end an answer: to a turn of a chat, or to any other prompt."""
        return ([] if chat else ["\n"]) if self.stop is None else self.stop


class DetectionConfig(Section):
    naming_files = frozenset({"transfer"})

    repeats: int = Field(2, ge=1, le=1000)
    """Repetitions of the cross-validation, grouped and with relations held out, each with folds of its own."""
    folds: int = Field(5, ge=2)
    """Outer folds of the grouped cross-validation."""
    inner_folds: int = Field(4, ge=2)
    """Inner folds that choose signals, model, regularisation and threshold."""
    relation_folds: int = Field(5, ge=0)
    """Parts in which whole relations are held out; 0 leaves that split out."""
    answer_folds: int = Field(2, ge=0)
    """Parts of answers and of groups that are held out together, so that there are this many squared folds; 0
    leaves that split out."""
    permutations: int = Field(200, ge=0)
    """Refits on labels shuffled within relations, for the control; 0 leaves it out."""
    early_points: int = Field(6, ge=1)
    """Depths at which early warning is measured."""
    transfer: str | list[str] | None = None
    """Detection folders of other configurations of the same model, such as results/<name>/detection, one or a list:
    their stored detectors score these questions too. null: none."""

    @property
    def transfers(self) -> list[str]:
        """Detection folders, in order; empty without one."""
        return [self.transfer] if isinstance(self.transfer, str) else self.transfer or []

    samples: int = Field(0, ge=0)
    """Answers drawn at random for each question, for detectors that compare them; 0 draws none."""
    temperature: float = Field(1.0, gt=0)
    """Temperature at which they are drawn."""


class EvaluationConfig(Section):
    bootstrap: int = Field(2000, ge=100)
    """Resamples of groups for the intervals."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of the intervals."""


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Config(Section):
    """A whole run. Every field is documented; `docs/MODEL_CONFIGS.md` is made from these descriptions."""

    name: str = Field(pattern=NAME, max_length=100)
    """Names the outputs' folders."""
    seed: int = Field(0, ge=0)
    """Seed of everything random."""
    paths: PathsConfig = Field(default_factory=PathsConfig)
    model: ModelConfig
    data: DataConfig = Field(default_factory=DataConfig)
    extract: ExtractConfig = Field(default_factory=ExtractConfig)
    sae: SaeConfig
    sae_training: SaeTrainingConfig = Field(default_factory=SaeTrainingConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    detection: DetectionConfig = Field(default_factory=DetectionConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @property
    def layers(self) -> list[int]:
        """The blocks to study, ascending."""
        return self.model.layers if self.model.layers is not None else list(range(self.model.n_layers))

    @property
    def groups(self) -> list[list[int]]:
        """The blocks to study, in the waves in which their states are extracted."""
        layers = self.layers
        size = self.extract.layers_per_wave or len(layers)
        return [layers[start : start + size] for start in range(0, len(layers), size)]

    def value(self, key: str) -> Any:
        """The value or section at a dotted key, as JSON-ready data."""
        data: Any = self.model_dump(mode="json")
        for part in key.split("."):
            data = data[part]
        return data
