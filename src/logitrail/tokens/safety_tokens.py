"""The safety tokens: found in templates or in the reference's own answers, kept as one artifact."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from logitrail.artifacts import sha256_of_json
from logitrail.errors import RecipeError, TokensError
from logitrail.losses.anchors import AnchorForm, anchor_form
from logitrail.models.chat import require_chat_template
from logitrail.models.fingerprints import tokenizer_fingerprint
from logitrail.tokens import artifact, mining
from logitrail.tokens.placing import NO_TOKEN, place, require_fast, token_text, usable, vocabulary_size
from logitrail.tokens.refusals import RefusalOpenings
from logitrail.tokens.salience import Document, Scores, ranked, score, weigh_alike
from logitrail.tokens.wordings import (
    OWN,
    Templates,
    Wording,
    compliance_wordings,
    refusal_wordings,
    wordings_hash,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOP_K = 32
"""Tokens kept by default. Thirty-two columns cover the openings of the built-in wordings in one language; behind them come
words that appear late and seldom."""

MOST_COMPLIANCE = 32
"""Compliance openers' first tokens kept at most."""


@dataclass(frozen=True)
class SafetyToken:
    """One vocabulary id whose logit is anchored, and why.

    Attributes:
        id: its column in the logits.
        text: what it adds to a text, leading space included.
        weight: w_s in the STR loss.
        sources: where it was found: `template:LANGUAGE`, `own:LANGUAGE`, `mined`, or `given`.
        scores: each score; `None` for ids that were given by hand.
    """

    id: int
    text: str
    weight: float = 1.0
    sources: tuple[str, ...] = ()
    scores: Scores | None = None


@dataclass(frozen=True)
class ComplianceToken:
    """The first token of a helpful answer, for the `margin` anchor."""

    id: int
    text: str


class AnchoredColumns(NamedTuple):
    """Which columns of the logits an anchor takes.

    Attributes:
        form: the anchor.
        ids: of the safety tokens and, behind them, of the compliance openers where the anchor needs those.
        compliance: how many of `ids` are compliance openers.
        weights: [K], w_s; None where all are 1 or the anchor has no number for each token.
    """

    form: AnchorForm
    ids: list[int]
    compliance: int
    weights: Tensor | None


@dataclass(frozen=True)
class SafetyTokens:
    """The tokens of one tokenizer, most salient first. Make one with `from_templates`, `mine`, `from_ids` or `load`.

    Attributes:
        tokens: the safety tokens.
        compliance: compliance openers' first tokens; none of them is a safety token.
        tokenizer_fingerprint: of the tokenizer that the ids belong to.
        vocabulary_size: one more than that tokenizer's largest id.
        templates_hash: of the wordings they were found in; `None` for ids given by hand.
        made: how: method, languages, counts. No prompt and no answer is kept.
        notes: what a person should know before trusting them, one sentence each.
        library_version: the logitrail that found them.
    """

    tokens: tuple[SafetyToken, ...]
    compliance: tuple[ComplianceToken, ...]
    tokenizer_fingerprint: str
    vocabulary_size: int
    templates_hash: str | None = None
    made: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    library_version: str = field(default_factory=lambda: version("logitrail"))

    @property
    def ids(self) -> list[int]:
        """The ids, unique, most salient first."""
        return [token.id for token in self.tokens]

    @property
    def weights(self) -> list[float]:
        """w_s for each of `ids`."""
        return [token.weight for token in self.tokens]

    @property
    def compliance_ids(self) -> list[int]:
        """First tokens of helpful answers, disjoint from `ids`; the C of the `margin` anchor."""
        return [token.id for token in self.compliance]

    @property
    def hash(self) -> str:
        """Hash of what a loss depends on: ids, weights, compliance ids."""
        return sha256_of_json({"ids": self.ids, "weights": self.weights, "compliance_ids": self.compliance_ids})[:16]

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_templates(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        templates: Templates | None = None,
        *,
        languages: Sequence[str] = ("en",),
        top_k: int = TOP_K,
    ) -> SafetyTokens:
        """Find safety tokens in refusal templates, against compliance openers as the contrast. Needs no model.

        Args:
            templates: a user's own instead of the built-in ones: wordings, language -> wordings, or a file with one of the
                two as JSON or one wording a line.
            languages: of the built-in templates.
            top_k: how many to keep at most.

        Raises:
            TokensError: a slow tokenizer, unknown language, unreadable templates, or no token was found.
            ModelError: the tokenizer has no chat template.
        """
        _check_top_k(top_k)
        sources = _Templates.read(tokenizer, templates, languages)
        return _build(
            tokenizer,
            sources,
            refusals=sources.refusals,
            contrast=sources.compliance,
            scores=score(sources.refusals, sources.compliance),
            top_k=top_k,
            made={"method": "templates"},
        )

    @classmethod
    def mine(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[mining.Prompt],
        *,
        harmless_prompts: Sequence[mining.Prompt] | None = None,
        templates: Templates | None = None,
        languages: Sequence[str] = ("en",),
        sibling: PreTrainedModel | None = None,
        max_new_tokens: int = 24,
        batch_size: int = 16,
        top_k: int = TOP_K,
        on_progress: mining.Progress | None = None,
    ) -> SafetyTokens:
        """Find safety tokens in the reference's own refusals, with the templates beside them.

        Only answers that open as a refusal count as one (`RefusalOpenings`). Answers to harmless prompts that do not are a
        contrast beside the compliance openers. A word of the question that an answer repeats counts for nothing.

        Args:
            model: the aligned reference.
            prompts: harmful prompts; no answers are needed, and none are kept.
            harmless_prompts: harmless prompts on the same topics, for specificity and gain. Much recommended.
            sibling: the pretrained model without alignment, same tokenizer, for the gap.
            max_new_tokens: of each answer; a refusal shows in its first words.
            on_progress: called with what is done, how many are done, and how many there are.

        Raises:
            TokensError: as `from_templates`; no prompts; a model that lacks columns for the tokenizer's ids.
            ModelError: the tokenizer has no chat template.
            NumericalError: the model gives NaN or infinite log-probabilities.
        """
        _check_top_k(top_k)
        sources = _Templates.read(tokenizer, templates, languages)
        harmful = mining.once_each(prompts, "prompts")
        harmless = [] if harmless_prompts is None else mining.once_each(harmless_prompts, "harmless_prompts")
        how: dict[str, Any] = {"batch_size": batch_size, "on_progress": on_progress}
        answering = {**how, "max_new_tokens": max_new_tokens}
        asked = mining.ask(model, tokenizer, harmful, what="answers to harmful prompts", **answering)
        asked_harmless = mining.ask(model, tokenizer, harmless, what="answers to harmless prompts", **answering)
        # Own templates add to what is known as a refusal; they do not take the built-in openings away.
        known = [*sources.wordings, *refusal_wordings(None, languages)]
        openings = RefusalOpenings(known, compliance_wordings(languages))
        refused = [one for one in asked if openings.match(one.answer.text)]
        helped = [one for one in asked_harmless if not openings.match(one.answer.text)]
        mined = _mined(tokenizer, refused, sources.refusals)
        refusals = (*sources.refusals, *mined)
        # Both kinds of help: harmless answers tell topic words, and compliance openers tell the small words of any short
        # answer (" help", " with"), which long harmless answers seldom begin with.
        answers = tuple(Document("harmless", one.answer.ids) for one in helped)
        contrasts = (sources.compliance, answers) if answers else (sources.compliance,)
        candidates = score(refusals, *contrasts)
        kept = usable(tokenizer, [token for token, value in candidates.items() if value.specificity > 0])
        gains, gaps = _from_model(model, sibling, tokenizer, asked, asked_harmless, refusals, list(kept), how)
        notes = _mining_notes(len(asked), len(refused), harmless_prompts, len(asked_harmless), len(helped))
        return _build(
            tokenizer,
            sources,
            refusals=refusals,
            contrast=[document for contrast in contrasts for document in contrast],
            scores=score(refusals, *contrasts, gains=gains, gaps=gaps),
            top_k=top_k,
            made={
                "method": "mined",
                "harmful_prompts": len(asked),
                "refusals_mined": len(refused),
                "harmless_prompts": len(asked_harmless),
                "harmless_answers_used": len(helped),
                "max_new_tokens": max_new_tokens,
                "gain_positions": mining.GAIN_POSITIONS if gains or gaps else None,
                "sibling": sibling is not None,
                "answers_hash": sha256_of_json(
                    [[list(one.answer.ids) for one in group] for group in (asked, asked_harmless)]
                )[:16],
            },
            notes=notes,
            opening=[one.answer.ids for one in helped],
        )

    @classmethod
    def from_ids(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        ids: Sequence[int],
        weights: Sequence[float] | None = None,
        *,
        compliance_ids: Sequence[int] = (),
    ) -> SafetyTokens:
        """Ids chosen by hand, in their order: for ablations (random tokens) and for a list of one's own.

        Raises:
            TokensError: no ids, an id twice or outside the vocabulary, or weights that do not fit.
        """
        size = vocabulary_size(tokenizer)
        chosen, openers = [int(token) for token in ids], [int(token) for token in compliance_ids]
        if not chosen:
            raise TokensError("no ids were given; give at least one vocabulary id")
        _check_given(chosen, openers, size)
        tokens = tuple(SafetyToken(token, token_text(tokenizer, token), 1.0, ("given",)) for token in chosen)
        made = cls(
            tokens=tokens,
            compliance=tuple(ComplianceToken(token, token_text(tokenizer, token)) for token in openers),
            tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
            vocabulary_size=size,
            made={"method": "ids"},
        )
        return made if weights is None else made.with_weights(weights)

    def with_weights(self, weights: Sequence[float]) -> SafetyTokens:
        """The same tokens with other weights w_s, in the order of `ids`.

        Raises:
            TokensError: another number of weights than of ids, one that is negative or not finite, or all of them 0.
        """
        values = [float(weight) for weight in weights]
        if len(values) != len(self.tokens):
            raise TokensError(f"{len(values)} weights were given for {len(self.tokens)} ids; give one weight an id")
        wrong = [value for value in values if not math.isfinite(value) or value < 0]
        if wrong or not any(values):
            raise TokensError(
                f"weights must be finite, at least 0, and not all 0 (given: {wrong[0] if wrong else 'all 0'})"
            )
        return replace(self, tokens=tuple(replace(t, weight=w) for t, w in zip(self.tokens, values, strict=True)))

    def for_anchor(self, name: str) -> AnchoredColumns:
        """What these tokens are to the anchor of that name.

        Raises:
            RecipeError: no anchor has that name.
            TokensError: it needs compliance openers, and these tokens have none.
        """
        try:
            form = anchor_form(name)
        except ValueError as error:
            raise RecipeError(str(error)) from None
        openers = self.compliance_ids if form.needs_compliance else []
        if form.needs_compliance and not openers:
            raise TokensError(
                f"anchor {name!r} needs compliance openers beside the safety tokens, and these have none; make the "
                "tokens again with templates that hold them, or choose another anchor"
            )
        weighted = form.per_token and any(weight != 1.0 for weight in self.weights)
        return AnchoredColumns(
            form, [*self.ids, *openers], len(openers), torch.tensor(self.weights) if weighted else None
        )

    def check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise `TokensError` unless the ids belong to `tokenizer`."""
        theirs = tokenizer_fingerprint(tokenizer)
        if theirs != self.tokenizer_fingerprint:
            raise TokensError(
                f"these safety tokens were found with the tokenizer {self.tokenizer_fingerprint}, and the one given is "
                f"{theirs}: their ids mean other words there; find them again with this tokenizer, or load the tokenizer "
                "that they were found with"
            )

    def save(self, path: str | Path) -> None:
        """Write `safety_tokens.json`, whole or not at all."""
        artifact.write(
            Path(path),
            {
                "kind": artifact.KIND,
                "format_version": artifact.FORMAT_VERSION,
                "library_version": self.library_version,
                "tokenizer": {
                    "fingerprint": self.tokenizer_fingerprint,
                    "vocabulary_size": self.vocabulary_size,
                },
                "templates_hash": self.templates_hash,
                "made": dict(self.made),
                "notes": list(self.notes),
                "tokens": self.to_rows(),
                "compliance": [{"id": token.id, "text": token.text} for token in self.compliance],
            },
        )

    @classmethod
    def load(cls, path: str | Path, tokenizer: PreTrainedTokenizerBase | None = None) -> SafetyTokens:
        """Read what `save` wrote; with `tokenizer`, check that the ids belong to it.

        Raises:
            ArtifactError: the file is missing, damaged, was edited, or is of a newer format.
            TokensError: the tokenizer is another one; the message names both fingerprints.
        """
        parsed = artifact.read(Path(path))
        loaded = cls(
            tokens=tuple(
                SafetyToken(token.id, token.text, token.weight, tuple(token.sources), _scores(token.scores))
                for token in parsed.tokens
            ),
            compliance=tuple(ComplianceToken(token.id, token.text) for token in parsed.compliance),
            tokenizer_fingerprint=parsed.tokenizer.fingerprint,
            vocabulary_size=parsed.tokenizer.vocabulary_size,
            templates_hash=parsed.templates_hash,
            made=parsed.made,
            notes=tuple(parsed.notes),
            library_version=parsed.library_version,
        )
        if tokenizer is not None:
            loaded.check(tokenizer)
        return loaded

    def to_rows(self) -> list[dict[str, Any]]:
        """One row a token: id, text, weight, sources and every score; for tables and `summary.json`."""
        return [
            {
                "id": token.id,
                "text": token.text,
                "weight": token.weight,
                "sources": list(token.sources),
                "scores": {name: getattr(token.scores, name, None) for name in artifact.ScoresFile.model_fields},
            }
            for token in self.tokens
        ]


@dataclass(frozen=True)
class _Templates:
    """Wordings and what they became in place."""

    wordings: tuple[Wording, ...]
    openers: tuple[Wording, ...]
    refusals: tuple[Document, ...]
    compliance: tuple[Document, ...]
    borders: tuple[str, ...]

    @classmethod
    def read(
        cls, tokenizer: PreTrainedTokenizerBase, templates: Templates | None, languages: Sequence[str]
    ) -> _Templates:
        require_fast(tokenizer)
        require_chat_template(tokenizer)
        wordings = refusal_wordings(templates, languages)
        openers = compliance_wordings(sorted({wording.language for wording in wordings} - {OWN}))
        borders: set[str] = set()

        def documents(texts: Iterable[Wording]) -> tuple[Document, ...]:
            placed = [(wording, place(tokenizer, wording.text)) for wording in texts]
            borders.update(one.border for _, one in placed if one.border is not None)
            found = [Document(f"{wording.source}:{wording.language}", one.ids) for wording, one in placed]
            return weigh_alike(found, float(len(found)))

        return cls(wordings, openers, documents(wordings), documents(openers), tuple(sorted(borders)))


def _build(
    tokenizer: PreTrainedTokenizerBase,
    sources: _Templates,
    *,
    refusals: Sequence[Document],
    contrast: Sequence[Document],
    scores: Mapping[int, Scores],
    top_k: int,
    made: Mapping[str, Any],
    notes: Sequence[str] = (),
    opening: Sequence[Sequence[int]] = (),
) -> SafetyTokens:
    texts = usable(tokenizer, [token for token, value in scores.items() if value.salience > 0])
    chosen = ranked({token: scores[token] for token in texts}, top_k)
    if not chosen:
        raise TokensError(
            f"none of the {len(refusals)} refusals has a token that helpful answers do not have as often "
            f"({len(contrast)} of them compared; special tokens, punctuation and parts of characters are left out); give "
            "more refusal templates in the model's own language, or use SafetyTokens.mine with harmful and harmless prompts"
        )
    found: dict[int, set[str]] = {}
    for document in refusals:
        for token in document.ids:
            found.setdefault(token, set()).add(document.source)
    all_notes = [*notes]
    bare = sorted({d.source for d in sources.refusals} - {name for token in texts for name in found[token]})
    if bare:
        all_notes.append(
            f"{', '.join(bare)}: no usable token; this tokenizer writes them in parts of characters, which are left out"
        )
    if sources.borders:
        shown = ", ".join(repr(text) for text in sources.borders)
        all_notes.append(
            f"the tokens {shown} hold the end of the generation prompt and the start of an answer in one; "
            "they were counted as the answer's"
        )
    return SafetyTokens(
        tokens=tuple(
            SafetyToken(token, texts[token], 1.0, tuple(sorted(found[token])), scores[token]) for token in chosen
        ),
        compliance=_compliance(tokenizer, sources.compliance, opening, frozenset(chosen)),
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        vocabulary_size=vocabulary_size(tokenizer),
        templates_hash=wordings_hash([*sources.wordings, *sources.openers]),
        made={
            **made,
            "languages": sorted({wording.language for wording in sources.wordings}),
            "template_wordings": len(sources.wordings),
            "compliance_wordings": len(sources.openers),
            "top_k": top_k,
            "border_tokens": list(sources.borders),
        },
        notes=tuple(all_notes),
    )


def _compliance(
    tokenizer: PreTrainedTokenizerBase,
    openers: Sequence[Document],
    answers: Sequence[Sequence[int]],
    taken: frozenset[int],
) -> tuple[ComplianceToken, ...]:
    """First usable token of each opener and helpful answer, the commonest first, safety tokens left out."""
    lists = [*(list(document.ids) for document in openers), *(list(ids) for ids in answers)]
    texts = usable(tokenizer, {token for ids in lists for token in ids[:2]})
    counts: dict[int, int] = {}
    for ids in lists:
        # A word mark or quotation mark may stand alone in front of the first word.
        first = next((token for token in ids[:2] if token in texts), None)
        if first is not None and first not in taken:
            counts[first] = counts.get(first, 0) + 1
    order = sorted(counts, key=lambda token: (-counts[token], token))[:MOST_COMPLIANCE]
    return tuple(ComplianceToken(token, texts[token]) for token in order)


def _mined(
    tokenizer: PreTrainedTokenizerBase, refused: Sequence[mining.Asked], templates: Sequence[Document]
) -> tuple[Document, ...]:
    """The mined refusals; an echoed word keeps its place but becomes an id that is no token's."""
    texts = usable(tokenizer, {token for one in refused for token in one.answer.ids})
    keep = frozenset(token for document in templates for token in document.ids)
    documents = []
    for one in refused:
        echoes = mining.echoed(tokenizer, one, texts, keep)
        documents.append(Document("mined", tuple(NO_TOKEN if token in echoes else token for token in one.answer.ids)))
    return tuple(documents)


def _from_model(
    model: PreTrainedModel,
    sibling: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[mining.Asked],
    asked_harmless: Sequence[mining.Asked],
    refusals: Sequence[Document],
    ids: list[int],
    how: Mapping[str, Any],
) -> tuple[dict[int, float] | None, dict[int, float] | None]:
    """Gain and gap of each id, averaged over the first positions as the refusals hold it there."""
    if not ids or not (asked_harmless or sibling is not None):
        return None, None
    last = mining.GAIN_POSITIONS - 1
    places = {token: [0.0] * mining.GAIN_POSITIONS for token in ids}
    for document in sorted(refusals):
        first: dict[int, int] = {}
        for position, token in enumerate(document.ids):
            first.setdefault(token, position)
        for token, position in first.items():
            if token in places:
                places[token][min(position, last)] += document.weight
    where = [places[token] for token in ids]
    ours = mining.start_logprobs(model, tokenizer, asked, ids, what="log-probabilities, harmful", **how)
    gains = gaps = None
    if asked_harmless:
        calm = mining.start_logprobs(model, tokenizer, asked_harmless, ids, what="log-probabilities, harmless", **how)
        gains = dict(zip(ids, mining.weighted_difference(ours, calm, where), strict=True))
    if sibling is not None:
        other = mining.start_logprobs(sibling, tokenizer, asked, ids, what="log-probabilities, sibling", **how)
        gaps = dict(zip(ids, mining.weighted_difference(ours, other, where), strict=True))
    return gains, gaps


def _mining_notes(asked: int, refused: int, given: object, harmless: int, helped: int) -> list[str]:
    notes = []
    if not refused:
        notes.append(
            f"none of {asked} answers to harmful prompts opened as a known refusal: the tokens come from templates alone; "
            "if the model does refuse, give its wordings as templates"
        )
    elif refused < asked / 2:
        notes.append(f"only {refused} of {asked} answers to harmful prompts opened as a known refusal")
    if given is None:
        notes.append(
            "no harmless prompts were given: specificity is against compliance openers, and no gain was measured"
        )
    elif not helped:
        notes.append(
            f"all {harmless} answers to harmless prompts opened as a refusal: specificity is against compliance openers"
        )
    return notes


def _scores(scores: artifact.ScoresFile) -> Scores | None:
    if scores.salience is None or scores.frequency is None or scores.specificity is None or scores.position is None:
        return None
    return Scores(scores.frequency, scores.specificity, scores.position, scores.gain, scores.gap, scores.salience)


def _check_top_k(top_k: int) -> None:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise TokensError(f"top_k is {top_k!r}; give a whole number of at least 1 (default {TOP_K})")


def _check_given(ids: Sequence[int], compliance_ids: Sequence[int], size: int) -> None:
    outside = [token for token in (*ids, *compliance_ids) if not 0 <= token < size]
    if outside:
        raise TokensError(f"id {outside[0]} is outside the vocabulary, which has ids 0 to {size - 1}")
    twice = [token for token, times in Counter(ids).items() if times > 1] or sorted(set(ids) & set(compliance_ids))
    if twice or len(set(compliance_ids)) != len(compliance_ids):
        raise TokensError(f"an id is given twice ({twice[0] if twice else list(compliance_ids)}); give each id once")
