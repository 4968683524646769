"""Learn a plan's stages in sequence with one model, and score it: before, after every epoch, and on earlier stages."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from math import ceil
from typing import Any

import torch

from ckl_bench import ranks
from ckl_bench.benchmarks.format import Probe, Stage
from ckl_bench.encode import Batch, EncodedDocument, Tokenizer, batches, encode_documents
from ckl_bench.errors import OUT_OF_MEMORY, CklError, UserError, out_of_memory
from ckl_bench.events import EpochDone, RunStarted, StageStarted, StepDone, Watcher, Watchers, Working
from ckl_bench.learning.best import Best
from ckl_bench.learning.cost import cost_of
from ckl_bench.learning.environment import give_back
from ckl_bench.learning.learner import Learner
from ckl_bench.learning.line import Shown
from ckl_bench.learning.measures import Measures
from ckl_bench.learning.planned import Learned, Plan
from ckl_bench.learning.retain import Scores as GeneralScores
from ckl_bench.learning.retain import beside, measured_before
from ckl_bench.learning.sizes import loss_scale, precision
from ckl_bench.learning.standing import Standing
from ckl_bench.learning.train import token_weights, train_epoch
from ckl_bench.learning.tripwire import Tripwire
from ckl_bench.method import Penalty, StageContext, Weigh
from ckl_bench.progress import line
from ckl_bench.records import EpochScores, Retained, StageScores, TokenWeights
from ckl_bench.scoring.sets import ProbeSets
from ckl_bench.storage.checkpoint import Keeper, sha256_tensors

SHOWN = 4  # documents whose token weights are recorded


def learn_stages(plan: Plan, keeper: Keeper, watchers: Iterable[Watcher] = (), *, keep_best: bool = False) -> Learned:
    """Learn every stage in order, going on from what `keeper` holds. Sets torch's global random state.

    `watchers` are told of everything that happens. With `keep_best`, of a run of one stage, the model to keep is that
    of the epoch with the best total, else that of the last one.
    Raises CklError where nothing trains, a loss or gradient is not finite, or the tripwire catches a rehearsed probe;
    UserError where `keep_best` comes too late for a run that goes on.
    """
    with keeper.listening(), ranks.in_step(plan.sizes.shard), line(plan.spec.method) as shown:
        tell = Watchers([Shown(shown), *watchers])
        tell.run_started(
            RunStarted(spec=plan.spec, stages=[stage.name for stage in plan.benchmark.stages], place=plan.place)
        )
        before: GeneralScores = {}
        if plan.retain is not None:  # first of all: a task that cannot be asked is found out before anything is learned
            tell.working(Working(what="asking other tasks"))
            with precision(plan.device, plan.spec.dtype):
                before = ranks.from_first(partial(measured_before, plan.base, plan.retain, plan.spec.dtype))
        run = _Run(plan, keeper, tell, keep_best)
        return replace(run.learn(), retained=run.retained(before) if before else {})


class _Run:
    """One model on its way through the stages."""

    def __init__(self, plan: Plan, keeper: Keeper, watchers: Watcher, keep_best: bool = False) -> None:
        self.plan, self.spec, self.stack, self.keeper, self.tell = plan, plan.spec, plan.stack, keeper, watchers
        self.tell.working(Working(what=f"loading {plan.base.name}"))
        self.tokenizer: Tokenizer = plan.base.tokenizer
        self.probes = [_probe_sets(stage, plan.spec.limit) for stage in plan.benchmark.stages]
        self.tripwire = Tripwire(probe for sets in self.probes for rows in sets.values() for probe in rows)
        start = time.perf_counter()
        self.learner = Learner(plan)
        self.model = self.learner.model
        self.now = Standing(self.learner.trained, plan.device)
        self.best = Best(self.now, keeper, wanted=keep_best and plan.stack.trains)
        self.now.clock.seconds["load"] = time.perf_counter() - start
        scoring = self.stack.owner("scoring").scoring(self.model)
        self.measures = Measures(self.model, self.tokenizer, scoring, self.now.clock, self.learner.score_tokens)

    def learn(self) -> Learned:
        """`learn_all` in the arithmetic of the spec."""
        with precision(self.plan.device, self.spec.dtype):
            return self.learn_all()

    def learn_all(self) -> Learned:
        """Every stage in order, and what came of it."""
        now, stages = self.now, self.plan.benchmark.stages
        names = [stage.name for stage in stages]
        if not self.keeper.take_up(now):
            if names[1:]:
                self.tell.working(Working(what="scoring later stages"))
            now.before = {
                name: self.measures.score(sets) for name, sets in zip(names[1:], self.probes[1:], strict=True)
            }
        else:
            ranks.from_first(self.best.require)
        for index, stage in enumerate(stages):
            rows = _first(stage.documents, self.spec.limit)
            documents = encode_documents(self.tokenizer, rows, self.spec.max_tokens, now.tell)
            self.tripwire.begin(documents)
            if index < len(now.scored):
                continue  # learned before this run was stopped
            context = self.context(stage.name, index, documents)
            weights = self.learn_stage(context, self.probes[index])
            self.tell.working(Working(what="measuring perplexity"))
            base = self.learner.below if self.stack.trains else lambda: self.model
            texts = self.measures.moved(base, documents, self.plan.benchmark.rehearsal, self.spec)
            if index:
                self.tell.working(Working(what="scoring earlier stages"))
            now.scored.append(
                StageScores(
                    name=stage.name,
                    documents=len(documents),
                    probe_ids={name: [probe.id for probe in rows] for name, rows in self.probes[index].items()},
                    epochs=now.results,
                    rehearsed=sorted(set().union(*ranks.gather(self.tripwire.read))),
                    token_weights=weights,
                    divergence={name: round(found.kl, 6) for name, found in texts.items()},
                    perplexity={name: found.perplexity for name, found in texts.items()},
                    earlier={names[i]: self.measures.score(self.probes[i]) for i in range(index)},
                )
            )
        return Learned(
            cost=cost_of(now, self.model, self.plan),
            before=now.before,
            stages=now.scored,
            told=now.told,
            weights_sha256=sha256_tensors(now.trained),
            model=self.model,
            retained={},
            to_keep=self.to_keep,
            as_scored=self.measures.as_scored,
        )

    @contextmanager
    def to_keep(self) -> Iterator[int]:
        """In the first process: in it, the model is the one to keep, as it is scored; gives its epoch."""
        with self.best.put_in() as epoch, self.measures.as_scored():
            yield epoch

    def retained(self, before: GeneralScores) -> dict[str, dict[str, Retained]]:
        """What became of the scores on other tasks, of the model as its method wants it scored."""
        assert self.plan.retain is not None
        self.tell.working(Working(what="asking other tasks"))
        with precision(self.plan.device, self.spec.dtype):
            return beside(before, self.measures.other_tasks(self.plan.retain))

    def context(self, name: str, index: int, documents: Sequence[EncodedDocument]) -> StageContext:
        """What the hooks may know of a stage."""
        rows, limit = self.plan.benchmark.rehearsal, self.spec.max_tokens
        return StageContext(
            name=name,
            index=index,
            seed=self.spec.seed,
            documents=documents,
            rehearsal=cache(lambda: self.tripwire.hand_out(encode_documents(self.tokenizer, rows, limit))),
            base=self.learner.base,
            inputs=self.plan.inputs,
            tokenizer=self.tokenizer,
            solved=lambda: self.plan.benchmark.attention,
        )

    def learn_stage(self, stage: StageContext, probes: ProbeSets) -> list[TokenWeights]:
        """Learn one stage, scoring its probe sets before the first epoch and after every one.

        Returns the weights of the first documents' tokens where a method weighs them.
        """
        now, epochs = self.now, self.spec.epochs
        fresh = now.begin(stage.index)
        self.tell.stage_started(
            StageStarted(
                name=stage.name, index=stage.index, documents=len(stage.documents), epochs=epochs, epoch=now.epoch
            )
        )
        if fresh:
            self.tell.working(Working(what="scoring"))
            self.scored(stage, EpochScores(epoch=0, train_loss=None, sets=self.measures.score(probes)))
        if not self.stack.trains:
            for epoch in range(1, epochs + 1):
                self.scored(stage, now.results[0].model_copy(update={"epoch": epoch}))
            return []
        optimizer = self.stack.owner("optimizer").optimizer(list(now.trained.values()), self.spec.learning_rate)
        if self.stack.owners("weigh"):
            self.tell.working(Working(what="weighing tokens"))
        with now.clock.phase("weigh"):
            weigh = now.clock.timed("weigh", self.stack.owner("weigh").weigh(self.model, self.tokenizer, stage))
        owners = self.stack.owners("penalty")
        if owners:
            self.tell.working(Working(what="preparing penalties"))
        with now.clock.phase("penalty"):
            penalties = [term for method in owners if (term := method.penalty(self.model, stage)) is not None]
        give_back()  # of what they were made with, a second model maybe
        now.ready(optimizer)
        steps = ceil(len(stage.documents) / self.spec.batch_size)
        done = (now.epoch - 1) * steps + now.progress.steps
        self.tell.working(Working(what="learning", steps=epochs * steps, done=done))
        for epoch in now.epochs(epochs):
            self.learn_epoch(stage, epoch, optimizer, weigh, penalties)
            self.tell.working(Working(what="scoring"))
            views = self.measures.score_views(probes) if epoch == self.spec.epochs else {}
            sets = views[self.measures.main] if views else self.measures.score(probes)
            self.scored(stage, EpochScores(epoch=epoch, train_loss=now.progress.loss, sets=sets, views=views))
        self.tell.working(Working(what="done"))
        return token_weights(self.model, stage.documents[:SHOWN], weigh) if self.stack.owners("weigh") else []

    def learn_epoch(
        self,
        stage: StageContext,
        epoch: int,
        optimizer: torch.optim.Optimizer,
        weigh: Weigh,
        penalties: Sequence[Penalty],
    ) -> None:
        """One epoch, its seconds counted apart from those of weighing."""
        now, seconds = self.now, self.now.clock.seconds
        # Order and dropout depend on seed, stage and epoch alone, not on what came before.
        torch.manual_seed(_mix(self.spec.seed, stage.index, epoch))
        order = random.Random(f"{self.spec.seed}:{stage.index}:{epoch}")
        plain: Iterable[Batch] = batches(stage.documents, self.spec.batch_size, order, self.plan.device)
        stream = now.behind(self.tripwire.watch_stream(self.stack.owner("stream").stream(plain, stage, epoch)))
        weighing, start = seconds.get("weigh", 0.0), time.perf_counter()

        def after() -> None:
            now.told = ranks.any_of(now.told)  # whichever process was handed the facts
            self.keeper.after_step(now.state)

        def advance(tokens: int) -> None:
            done = now.progress
            self.tell.step_done(
                StepDone(stage=stage.name, epoch=epoch, step=done.steps, loss=done.loss, tokens=done.tokens)
            )

        try:
            train_epoch(
                self.model,
                stream,
                optimizer,
                weigh,
                penalties,
                advance,
                now.progress,
                after,
                micro_batch=self.learner.micro_batch,
                reads_nll=self.stack.weighs_by_nll,
                loss_scale=loss_scale(self.spec.dtype),
            )
        except (UserError, ranks.Lost):
            raise  # the state could not be saved, or a process is gone: no fault of the run's, which can go on
        except CklError as error:
            raise CklError(f"stage {stage.name}, epoch {epoch}: {error}") from error
        except Exception as error:
            if not out_of_memory(error):
                raise
            where = f"stage {stage.name}, epoch {epoch}, step {now.progress.steps + 1}"
            raise CklError(f"{where}: {OUT_OF_MEMORY}") from error
        give_back()
        learning = time.perf_counter() - start - (seconds.get("weigh", 0.0) - weighing)
        seconds["train"] = seconds.get("train", 0.0) + learning
        now.tokens += now.progress.tokens

    def scored(self, stage: StageContext, last: EpochScores) -> None:
        """An epoch has its scores: note them, keep its weights where they are the best so far, tell the watchers."""
        now = self.now
        now.results.append(last)
        self.best.scored(self.spec.epochs)
        self.tell.epoch_done(
            EpochDone(
                stage=stage.name,
                index=stage.index,
                epoch=last.epoch,
                epochs=self.spec.epochs,
                loss=last.train_loss,
                sets=last.sets,
                seconds=dict(now.clock.seconds),
                tokens=now.tokens,
            )
        )


def _probe_sets(stage: Stage, limit: int | None) -> dict[str, Sequence[Probe]]:
    return {name: _first(rows, limit) for name, rows in stage.probes.items()}


def _first(items: Sequence[Any], limit: int | None) -> list[Any]:
    return list(items[:limit] if limit else items)


def _mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers."""
    return random.Random(":".join(map(str, numbers))).getrandbits(63)
