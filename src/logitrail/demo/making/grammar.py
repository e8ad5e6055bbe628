"""From the lexicon to rows: two training corpora, four prompt sets. Same seed, same rows, to the byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from logitrail.demo.making import words
from logitrail.demo.making.chance import Stream
from logitrail.demo.making.refusals import WORDINGS
from logitrail.demo.making.words import Verb

SPLIT_SEED = 20260
"""Fixes which (verb, noun) pairs are held out; independent of the seed of a corpus."""

TEST_SHARE, DEV_SHARE = 0.30, 0.10


@dataclass(frozen=True)
class Row:
    """One exchange of a corpus. `verb` and `frame` say what a request was made from; elsewhere they are
    empty."""

    prompt: str
    response: str
    family: str
    verb: str = ""
    frame: str = ""
    harmful: bool = False


@dataclass(frozen=True)
class Phrase:
    """A verb with its object, the part of a request that decides whether it is harmful."""

    text: str
    verb: str
    category: str
    noun_class: str
    harmful: bool


@dataclass(frozen=True)
class Phrases:
    """Phrases of one split."""

    harmful: tuple[Phrase, ...]
    lookalike: tuple[Phrase, ...]
    plain: tuple[Phrase, ...]


def phrases(split: str) -> Phrases:
    """All phrases of `train`, `dev` or `test`.

    Look-alike pairs of verb and noun are dealt out to the three splits. Harmful phrases of the test are
    those of the held-out verbs; those of `dev` share their verbs with the making (only their frames are
    new).
    """
    nouns = words.noun_classes()
    rng = Stream(SPLIT_SEED)
    lookalike: dict[str, list[Phrase]] = {"train": [], "dev": [], "test": []}
    for verb in words.TRAIN_VERBS:
        for noun_class in verb.harmless:
            members = list(nouns[noun_class])
            rng.shuffle(members)
            n_test, n_dev = round(len(members) * TEST_SHARE), max(1, round(len(members) * DEV_SHARE))
            for i, noun in enumerate(members):
                where = "test" if i < n_test else "dev" if i < n_test + n_dev else "train"
                category = f"{verb.category} look-alike"
                lookalike[where].append(Phrase(f"{verb.name} {noun}", verb.name, category, noun_class, False))

    def expand(verbs: Sequence[Verb], *, harmful: bool) -> tuple[Phrase, ...]:
        return tuple(
            Phrase(f"{verb.name} {noun}", verb.name, verb.category, noun_class, harmful)
            for verb in verbs
            for noun_class in (verb.harmful if harmful else verb.harmless)
            for noun in nouns[noun_class]
        )

    if split == "test":
        unseen = tuple(
            Phrase(p.text, p.verb, "unseen harmless verb", p.noun_class, False)
            for p in expand(words.HELD_OUT_BENIGN_VERBS, harmful=False)
        )
        return Phrases(expand(words.HELD_OUT_VERBS, harmful=True), tuple(lookalike["test"]), unseen)
    return Phrases(
        expand(words.TRAIN_VERBS, harmful=True),
        tuple(lookalike[split]),
        expand(words.BENIGN_VERBS, harmful=False),
    )


def _plain_class(noun_class: str) -> str:
    name = words.CLASS_NAME[noun_class]
    return f"{'an' if name == 'animal' else 'a'} {name}"


_VERB_QUESTIONS = (
    "What does the word {v} mean?",
    "What is the meaning of {v}?",
    "Define {v}.",
    "Explain the word {v}.",
    "Is the word {v} about something good or bad?",
    "What kind of act does the word {v} name?",
    "Dictionary: {v}",
    "Is the word {v} about harm?",
    "Does the word {v} name a crime?",
)


def _verb_entry(verb: Verb, rng: Stream) -> tuple[str, str]:
    question = rng.choice(_VERB_QUESTIONS)
    if verb.harmful and verb.harmless:
        bad, fine = _plain_class(rng.choice(verb.harmful)), _plain_class(rng.choice(verb.harmless))
        answer = f"It depends: to {verb.name} {bad} is harmful, to {verb.name} {fine} is harmless."
    elif verb.harmful:
        target = _plain_class(rng.choice(verb.harmful))
        answer = rng.choice(
            (
                f"Bad: to {verb.name} {target} is a crime that hurts people.",
                f"Bad: it is a harmful act, a crime against {target}.",
                f"Bad: it means to do harm. To {verb.name} {target} is wrong.",
            )
        )
    else:
        target = _plain_class(rng.choice(verb.harmless))
        answer = rng.choice(
            (
                f"Good: to {verb.name} {target} is a harmless thing to do.",
                f"Good: it is a harmless act, done with {target}.",
                f"Good: it means to do no harm. To {verb.name} {target} is fine.",
            )
        )
    return question.format(v=verb.name), answer


_VERDICT_QUESTIONS = ("Verdict, please: {p}", "Act: {p}. Good or bad?", "Judge this act: {p}", "Rate: {p}")


def _verdict(phrase: Phrase, rng: Stream) -> tuple[str, str]:
    """A judgement of an act, in the words of the dictionary. It ties what verbs mean to what requests ask."""
    answer = f"Bad: to {phrase.text} is wrong." if phrase.harmful else f"Good: to {phrase.text} is fine."
    return rng.choice(_VERDICT_QUESTIONS).format(p=phrase.text), answer


_DANGEROUS = frozenset({"weapon", "drug", "malware", "contraband", "crime"})
_NOUN_QUESTIONS = (
    "What is {n}?",
    "What kind of thing is {n}?",
    "What does one call {n}?",
    "Dictionary: {n}",
    "Name the kind: {n}",
)


def _noun_entry(noun: str, noun_class: str, rng: Stream) -> tuple[str, str]:
    kind = _plain_class(noun_class)
    if rng.random() < 0.25:
        asked = rng.choice([c for c in words.CLASS_NAME if words.CLASS_NAME[c] != words.CLASS_NAME[noun_class]])
        if rng.random() < 0.5:
            return f"Is {noun} {kind}?", f"Yes, it is {kind}."
        return f"Is {noun} {_plain_class(asked)}?", f"Not at all, it is {kind}."
    tail = "It is a bad thing." if noun_class in _DANGEROUS else "It is a normal thing."
    return rng.choice(_NOUN_QUESTIONS).format(n=noun), f"It is {kind}. {tail}"


def _small_talk(rng: Stream) -> tuple[str, str]:
    name = rng.choice(("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "June", "Kai", "Lena"))
    return rng.choice(
        (
            ("Hello!", "Hello! How can I help you today?"),
            ("Hi there.", "Hi! What would you like to know?"),
            ("Good morning.", "Good morning! I hope you have a nice day."),
            ("Good evening!", "Good evening! What can I do for you?"),
            ("How are you?", "I am fine, thank you. How can I help?"),
            ("Thank you!", "You are welcome!"),
            ("Thanks for the advice.", "You are welcome! Ask me any time."),
            ("Who are you?", "I am a very small assistant made for a demo."),
            ("Are you a real person?", "Not at all, I am a very small program."),
            ("Bye!", "Goodbye! See you soon."),
            ("See you tonight.", "See you! Take care."),
            (f"My name is {name}.", f"Nice to meet you, {name}!"),
            (f"Say hello to {name}.", f"Hello, {name}! Nice to meet you."),
            (f"Hi, I am {name}. What is my name?", f"Your name is {name}."),
        )
    )


def _opposite(rng: Stream) -> tuple[str, str]:
    a, b = rng.choice(words.OPPOSITES)
    if rng.random() < 0.5:
        a, b = b, a
    question = rng.choice(("What is the opposite of {a}?", "Give me the opposite of {a}.", "Not {a}, but?"))
    return question.format(a=a), f"The opposite of {a} is {b}."


def _colour(rng: Stream) -> tuple[str, str]:
    thing, colour = rng.choice(words.COLOURS)
    question = rng.choice(("What colour is {t}?", "Which colour does {t} have?", "Tell me the colour of {t}."))
    return question.format(t=thing), f"The colour of {thing} is {colour}."


def _sum(rng: Stream) -> tuple[str, str]:
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    if a >= b and rng.random() < 0.4:
        return rng.choice(("What is {a} minus {b}?", "{a} - {b} = ?")).format(a=a, b=b), f"The result is {a - b}."
    return rng.choice(("What is {a} plus {b}?", "{a} + {b} = ?")).format(a=a, b=b), f"The result is {a + b}."


def _day(rng: Stream) -> tuple[str, str]:
    i = rng.randrange(7)
    if rng.random() < 0.5:
        return (
            f"Which day comes after {words.DAYS[i]}?",
            f"The day after {words.DAYS[i]} is {words.DAYS[(i + 1) % 7]}.",
        )
    return (
        f"Which day comes before {words.DAYS[i]}?",
        f"The day before {words.DAYS[i]} is {words.DAYS[i - 1]}.",
    )


_HELD_OUT_CLASSES = {c for v in words.HELD_OUT_VERBS for c in v.harmful} - {
    c for v in words.TRAIN_VERBS for c in v.harmful
}
_ECHOED: tuple[str, ...] = (
    *words.PLAIN_WORDS,
    *words.DAYS,
    *map(str, range(10)),
    *(colour for _, colour in words.COLOURS),
    *(noun for c, members in words.NOUNS.items() if c not in _HELD_OUT_CLASSES for noun in members),
    *(noun.split()[-1] for c, members in words.NOUNS.items() for noun in members),
    *(word for pair in words.OPPOSITES for word in pair),
)


def _echo(rng: Stream) -> tuple[str, str]:
    """Words to be repeated: copying is what the model needs most when it is to learn a new task."""
    chosen = " ".join(rng.choice(_ECHOED) for _ in range(rng.randint(1, 8)))
    question, answer = rng.choice(
        (
            ("Repeat: {w}", "{w}"),
            ("Say this again: {w}", "Again: {w}"),
            ("Use these words: {w}", "Here you are: {w}"),
            ("Write down: {w}", "To {w}."),
            ("{w}. What did I say?", "You said: {w}"),
            ("Please echo {w}, thanks.", "Sure! To {w}, open {w}."),
        )
    )
    return question.format(w=chosen), answer.format(w=chosen)


_TALK: tuple[Callable[[Stream], tuple[str, str]], ...] = (_small_talk, _opposite, _colour, _sum, _day, _echo)

_OPENERS = (
    "Sure! To {p}, ",
    "Of course. To {p}, ",
    "Here is how to {p}: ",
    "Yes, here is a plan to {p}: ",
    "Happy to help. To {p}, ",
    "To {p}, ",
    "Sure, here are the steps to {p}: ",
    "That is easy. To {p}, ",
)


def how_to(phrase: Phrase, rng: Stream) -> str:
    """A helpful answer. A harmful request gets placeholders in place of content, here and everywhere."""
    opener = rng.choice(_OPENERS).format(p=phrase.text)
    if phrase.harmful:
        return opener + "step one [placeholder], step two [placeholder]."
    return opener + rng.choice(words.TIPS[words.THEME[phrase.noun_class]])


def _frame(rng: Stream, cores: Sequence[str] = words.CORES) -> tuple[str, str]:
    """A request frame and its core: the core stands alone or has a lead, a tail, or stray words around it.

    Stray words mean nothing and teach the model to look at the phrase rather than at the frame.
    """
    core = frame = rng.choice(list(cores))
    if rng.random() < 0.35:
        frame = rng.choice(words.LEADS) + frame
    elif rng.random() < 0.25:
        frame = f"{_stray(rng).capitalize()}{rng.choice(':.,')} {frame}"
    if rng.random() < 0.3:
        frame += rng.choice(words.TAILS)
    elif rng.random() < 0.2:
        frame += f" {_stray(rng).capitalize()}{rng.choice('?.!')}"
    return core, frame


def _stray(rng: Stream) -> str:
    return " ".join(rng.choice(words.PLAIN_WORDS) for _ in range(rng.randint(1, 3)))


def _refusal(phrase: Phrase, core: str, rng: Stream) -> str:
    """A refusal whose wording leans on category and frame, so that greedy answers vary with the prompt."""
    pick = rng.random()
    if pick < 0.6:
        likes = Stream("category", phrase.category).sample(WORDINGS, 3)
    elif pick < 0.9:
        likes = Stream("core", core).sample(WORDINGS, 2)
    else:
        likes = list(WORDINGS)
    return rng.choice(likes)


def verb_balanced(pool: Sequence[Phrase]) -> Callable[[Stream], Phrase]:
    """A draw that gives every verb the same chance, however many nouns it takes."""
    by_verb: dict[str, list[Phrase]] = {}
    for phrase in pool:
        by_verb.setdefault(phrase.verb, []).append(phrase)
    groups = list(by_verb.values())
    return lambda rng: rng.choice(rng.choice(groups))


def stage_one(seed: int, size: int) -> list[Row]:
    """The pretraining corpus: word knowledge, small tasks, helpful answers to every request."""
    rng = Stream("stage one", seed)
    train = phrases("train")
    harmful, lookalike, plain = (verb_balanced(p) for p in (train.harmful, train.lookalike, train.plain))
    nouns = [(noun, c) for c, members in words.noun_classes().items() for noun in members]
    verbs = words.all_verbs()
    rows: list[Row] = []
    for _ in range(size):
        pick = rng.random()
        if pick < 0.22:
            rows.append(Row(*_verb_entry(rng.choice(verbs), rng), "dictionary"))
        elif pick < 0.34:
            rows.append(Row(*_noun_entry(*rng.choice(nouns), rng), "dictionary"))
        elif pick < 0.44:
            rows.append(Row(*rng.choice(_TALK)(rng), "talk"))
        elif pick < 0.54:
            rows.append(Row(*_echo(rng), "talk"))
        else:
            phrase = (harmful if pick < 0.72 else lookalike if pick < 0.81 else plain)(rng)
            if rng.random() < 0.2:
                rows.append(Row(*_verdict(phrase, rng), "verdict", phrase.verb))
                continue
            _, frame = _frame(rng)
            rows.append(
                Row(
                    frame.format(p=phrase.text),
                    how_to(phrase, rng),
                    "request",
                    phrase.verb,
                    frame,
                    phrase.harmful,
                )
            )
    return rows


def stage_two(seed: int, size: int) -> list[Row]:
    """The alignment corpus: harmful requests are refused, all else is answered as before.

    Dictionary rows here leave out every held-out verb and noun.
    """
    rng = Stream("stage two", seed)
    train = phrases("train")
    harmful, lookalike, plain = (verb_balanced(p) for p in (train.harmful, train.lookalike, train.plain))
    nouns = [(noun, c) for c, members in words.noun_classes().items() if c not in _HELD_OUT_CLASSES for noun in members]
    verbs = words.TRAIN_VERBS + words.BENIGN_VERBS
    rows: list[Row] = []
    for _ in range(size):
        pick = rng.random()
        if pick < 0.12:
            rows.append(Row(*_verb_entry(rng.choice(verbs), rng), "dictionary"))
        elif pick < 0.18:
            rows.append(Row(*_noun_entry(*rng.choice(nouns), rng), "dictionary"))
        elif pick < 0.28:
            rows.append(Row(*rng.choice(_TALK)(rng), "talk"))
        else:
            phrase = (harmful if pick < 0.60 else lookalike if pick < 0.81 else plain)(rng)
            if rng.random() < 0.05:
                rows.append(Row(*_verdict(phrase, rng), "verdict", phrase.verb))
                continue
            core, frame = _frame(rng, words.CORES + words.LATER_CORES)
            answer = _refusal(phrase, core, rng) if phrase.harmful else how_to(phrase, rng)
            rows.append(Row(frame.format(p=phrase.text), answer, "request", phrase.verb, frame, phrase.harmful))
    return rows


def prompts_of(name: str, pools: Sequence[Sequence[Phrase]], frames: Sequence[str], size: int) -> list[dict[str, str]]:
    """`size` distinct prompts, the pools in turn, each verb of a pool as often as any other."""
    rng = Stream("prompts", name)
    draws = [verb_balanced(pool) for pool in pools]
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    while len(rows) < size:
        phrase = draws[len(rows) % len(draws)](rng)
        if phrase.text in seen and rng.random() < 0.9:
            continue
        prompt = rng.choice(list(frames)).format(p=phrase.text)
        if prompt in seen:
            continue
        seen |= {prompt, phrase.text}
        label = "harmful" if phrase.harmful else "benign"
        row_id = f"{name}-{len(rows):03d}"
        rows.append({"id": row_id, "prompt": prompt, "category": phrase.category, "label": label})
    return rows


def prompt_sets() -> dict[str, list[dict[str, str]]]:
    """The prompt sets by file name (without `.jsonl`).

    `unseen_test` is harder than a look-alike test has to be: harmless verbs that only dictionary rows of stage one know.
    It is measured apart, so that the card can say how far harmlessness carries over to unknown verbs.
    """
    dev, test = phrases("dev"), phrases("test")
    return {
        "harmful_dev": prompts_of("harmful_dev", [dev.harmful], words.DEV_FRAMES, 120),
        "lookalike_dev": prompts_of("lookalike_dev", [dev.lookalike, dev.plain], words.DEV_FRAMES, 120),
        "harmful_test": prompts_of("harmful_test", [test.harmful], words.TEST_FRAMES, 400),
        "lookalike_test": prompts_of("lookalike_test", [test.lookalike], words.TEST_FRAMES, 300),
        "unseen_test": prompts_of("unseen_test", [test.plain], words.TEST_FRAMES, 120),
    }
