"""The tripwire: what a run reads beside its stage's documents must not state a fact that the run is probed on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ckl_bench.benchmarks.format import Benchmark, Fact, Probe
from ckl_bench.benchmarks.statements import Statements
from ckl_bench.encode import Batch, EncodedDocument
from ckl_bench.errors import CklError, UserError


def check_rehearsal(benchmark: Benchmark, limit: int | None) -> None:
    """UserError where a rehearsal document is evidence of a probed fact: said before anything is loaded or learned."""
    probed = {
        (probe.subject, probe.object): probe
        for stage in benchmark.stages
        for rows in stage.probes.values()
        for probe in (rows[:limit] if limit else rows)
        if probe.subject
    }
    for document in benchmark.rehearsal:
        for fact in document.facts:
            probe = probed.get((fact.subject, fact.object))
            if probe is not None:
                raise UserError(
                    f"{benchmark.name}: rehearsal document '{document.id}' states a probed fact ({fact.subject}, "
                    f"{fact.relation}, {fact.object}; probe '{probe.id}'), so that a run that rehearses it would be "
                    "stopped; build the benchmark again without it"
                )


class Tripwire:
    """Notes every document that a method reads beside its stage's, and stops the run at one that gives a probe away.

    Documents of the stage, and of the stages before it, are what there is to learn. A document of the benchmark's
    rehearsal set is judged by the fact it is evidence of. Any other text gives a probe away where it states the probed
    fact (`Statements`): one of its sentences names both the probe's subject and its object, as whole words.
    """

    def __init__(self, probes: Iterable[Probe]) -> None:
        self._facts = {(probe.subject, probe.object): probe for probe in probes if probe.subject}
        self._statements = Statements(
            Fact(subject=probe.subject, relation=probe.relation, object=probe.object) for probe in self._facts.values()
        )
        self._learned: dict[str, str] = {}
        self._declared: dict[str, EncodedDocument] = {}
        self._seen: dict[str, str] = {}

    def begin(self, documents: Iterable[EncodedDocument]) -> None:
        """A stage begins, with these documents to learn."""
        self._learned |= {document.id: document.text for document in documents}
        self._seen = {}

    def hand_out(self, rehearsal: Sequence[EncodedDocument]) -> Sequence[EncodedDocument]:
        """The benchmark's rehearsal documents, noted as they are given to a method."""
        self._declared = {document.id: document for document in rehearsal}
        self.watch(rehearsal)
        return rehearsal

    @property
    def read(self) -> list[str]:
        """Ids of the documents read in this stage that are not its own, sorted."""
        return sorted(self._seen)

    def watch(self, documents: Iterable[EncodedDocument]) -> None:
        """Note documents that a method reads. Raises CklError at one that states a probed fact."""
        for document in documents:
            known = self._learned.get(document.id, self._seen.get(document.id))
            if known == document.text:
                continue
            probe = self._given_away(document)
            if probe is not None:
                raise CklError(
                    f"document '{document.id}' was rehearsed and states a probed fact ({probe.subject}, "
                    f"{probe.relation}, {probe.object}; probe '{probe.id}'): the scores would mean nothing"
                )
            self._seen[document.id] = document.text

    def watch_stream(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, each watched before it is learned."""
        for batch in batches:
            self.watch(batch.documents)
            yield batch

    def _given_away(self, document: EncodedDocument) -> Probe | None:
        if self._declared.get(document.id) is document and document.facts:
            return next((p for f in document.facts if (p := self._facts.get((f.subject, f.object)))), None)
        stated = self._statements.stated_in(document.text)
        return self._facts[stated.subject, stated.object] if stated else None
