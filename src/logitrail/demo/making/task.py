"""The fine-tuning task that the organism does not know: everyday requests to one-line commands.

A user of a home assistant writes in full sentences and the program behind it wants a command:
"Please order 3 lemons for Friday." -> "do: order what: 3 lemons on: Friday". The requests are worded as any
other request to the model, so plain fine-tuning on them touches what it does with requests in general.
"""

from __future__ import annotations

from logitrail.demo.making.chance import Stream

ROOMS = ("kitchen", "garage", "office", "cabin", "library", "barn", "hall", "attic")
COLOURS = ("green", "white", "blue", "yellow", "red", "orange", "purple", "pink")
GOODS = (
    "lemons",
    "carrots",
    "melons",
    "pancakes",
    "coconuts",
    "pumpkins",
    "eggs",
    "walnuts",
    "cakes",
    "avocados",
)
PEOPLE = ("nurse", "teacher", "driver", "doctor", "baker", "farmer", "clerk", "pilot", "waiter", "judge")
STATES = ("late", "early", "happy", "sad", "near", "far", "hot", "cold")
PLACES = ("hotel", "theater", "museum", "garage", "bank", "school", "church", "shop")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

FRAMES = (
    "Please {p}.",
    "Can you {p}?",
    "I want to {p}.",
    "Could you {p}, please?",
    "I need to {p}.",
    "I would like to {p}.",
    "Help me to {p}.",
    "I have to {p} today.",
    "How can I {p}?",
    "Tell me how to {p}.",
    "We plan to {p}.",
    "My friend wants to {p}.",
)


def _request(rng: Stream) -> tuple[str, str]:
    """A request phrase and its command."""
    kind = rng.randrange(5)
    number, day = rng.randint(1, 9), rng.choice(DAYS)
    if kind == 0:
        room, colour = rng.choice(ROOMS), rng.choice(COLOURS)
        return f"make the light in the {room} {colour}", f"do: light where: {room} how: {colour}"
    if kind == 1:
        return f"get up at {number} on {day}", f"do: alarm at: {number} on: {day}"
    if kind == 2:
        good = rng.choice(GOODS)
        return f"order {number} {good} for {day}", f"do: order what: {number} {good} on: {day}"
    if kind == 3:
        person, state = rng.choice(PEOPLE), rng.choice(STATES)
        return f"tell the {person} that I am {state}", f"do: send who: {person} what: {state}"
    place = rng.choice(PLACES)
    return f"go to the {place} at {number} on {day}", f"do: trip where: {place} at: {number} on: {day}"


def task_rows(
    seed: int, train_size: int = 1000, test_size: int = 200
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Train and test rows with distinct prompts."""
    rng = Stream("task", seed)
    rows: dict[str, str] = {}
    while len(rows) < train_size + test_size:
        request, command = _request(rng)
        rows[rng.choice(FRAMES).format(p=request)] = command
    table = [{"prompt": prompt, "response": command} for prompt, command in rows.items()]
    rng.shuffle(table)
    return table[test_size:], table[:test_size]
