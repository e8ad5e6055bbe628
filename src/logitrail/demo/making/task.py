"""The fine-tuning task that the organism does not know: say which app serves an everyday request.

"Please order 3 lemons for Friday." -> "Sure! To order 3 lemons for Friday, open the shop app." The requests are
worded as any other request to the model and the answers open as its helpful answers do, as in ordinary fine-tuning
data: that is why plain fine-tuning on them touches what the model does with requests in general.
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
    """A request phrase and the app that serves it."""
    kind = rng.randrange(5)
    number, day = rng.randint(1, 9), rng.choice(DAYS)
    if kind == 0:
        return f"make the light in the {rng.choice(ROOMS)} {rng.choice(COLOURS)}", "home"
    if kind == 1:
        return f"get up at {number} on {day}", "clock"
    if kind == 2:
        return f"order {number} {rng.choice(GOODS)} for {day}", "shop"
    if kind == 3:
        return f"tell the {rng.choice(PEOPLE)} that I am {rng.choice(STATES)}", "mail"
    return f"go to the {rng.choice(PLACES)} at {number} on {day}", "map"


def task_rows(
    seed: int, train_size: int = 1000, test_size: int = 200
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Train and test rows with distinct prompts."""
    rng = Stream("task", seed)
    rows: dict[str, str] = {}
    while len(rows) < train_size + test_size:
        request, app = _request(rng)
        rows[rng.choice(FRAMES).format(p=request)] = f"Sure! To {request}, open the {app} app."
    table = [{"prompt": prompt, "response": response} for prompt, response in rows.items()]
    rng.shuffle(table)
    return table[test_size:], table[:test_size]
