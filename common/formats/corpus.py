"""The packed corpus as stages read it: a stream of tokens in rows, cut into segments that do not see each other."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ghosttrack.common.errors import CorruptInputError, DataError, ModelMismatchError
from ghosttrack.common.foreign import whole
from ghosttrack.common.formats.file import File

CORPUS = File(
    "corpus.pt",
    "prepare/corpus",
    "`tokens, doc, position` int32 [n_tokens], `doc_held_out` bool [n_docs], `doc_kind` uint8 [n_docs] (0 prose, 1 prompt). The "
    "stream is packed: row r of the forward pass is tokens [r·L, (r+1)·L), L = `extract.max_length`; a segment never crosses a "
    "row, `position` restarts at 0 with each segment",
)


@dataclass(frozen=True)
class Corpus:
    """A value a token: token, doc, position int32 [n_tokens]; held_out bool, kind uint8 [n_tokens].

    Row r of the forward pass is tokens [r·L, (r+1)·L); a position of 0 begins a segment, which sees nothing before it.
    """

    token: Tensor
    doc: Tensor
    position: Tensor
    held_out: Tensor
    kind: Tensor

    def __len__(self) -> int:
        return len(self.token)

    def index(self) -> dict[str, Tensor]:
        """What is stored beside the states, a value a row of theirs."""
        return dict(vars(self))

    def rows(self, rows: Tensor, length: int) -> "Corpus":
        """Only these rows, int64 [n], of `length` tokens each."""
        chosen = (rows[:, None] * length + torch.arange(length)).flatten()
        return Corpus(**{name: values[chosen] for name, values in vars(self).items()})


def read_corpus(path: Path, vocabulary: int) -> Corpus:
    """The corpus of the prepare stage, checked.

    Raises DataError for one without tokens, ModelMismatchError for one of another tokenizer, CorruptInputError.
    """
    with whole(path, "run the prepare stage again", "packed corpus"):
        stored = torch.load(path, mmap=True, weights_only=True)
        token, doc, position = (stored[name] for name in ("tokens", "doc", "position"))
        corpus = Corpus(token, doc, position, stored["doc_held_out"][doc], stored["doc_kind"][doc])
    if not len(token) == len(doc) == len(position):
        raise CorruptInputError(f"{path}: its columns differ in length; run the prepare stage again")
    if not len(token):
        raise DataError("the corpus has no tokens; raise data.max_tokens")
    if int(token.max()) >= vocabulary or int(token.min()) < 0:
        raise ModelMismatchError(
            f"{path} has token ids that the model does not know (it has {vocabulary}); it was made with another "
            "tokenizer. Run the prepare stage again"
        )
    return corpus
