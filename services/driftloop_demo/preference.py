"""The questions of the demo's simulated users, and the answer format that they want, which the
model is not given.

Each answer should be one line: `In short: ` and one sentence of at most MAX_WORDS words.
"""

import random
import re

START, MAX_WORDS = "In short: ", 30
_WANTED = re.compile(r"In short: [^\n]*[.!?]")

TOPICS = (
    "photosynthesis", "the water cycle", "gravity", "bread baking", "beekeeping", "solar panels",
    "the printing press", "chess", "earthquakes", "compound interest", "the human heart", "tea",
    "electric cars", "rainbows", "the stock market", "meditation", "volcanoes", "recycling",
    "the internet", "bicycles", "vaccines", "jazz", "coral reefs", "steam engines", "glaciers",
    "the Roman Empire", "tides", "fermentation", "lighthouses", "public libraries", "sleep",
    "antibiotics", "wind power", "origami", "the moon landing", "honey", "inflation", "bridges",
    "migratory birds", "the periodic table", "maps", "soap", "black holes", "gardening",
    "the Olympic Games", "batteries", "deserts", "the piano", "clouds", "democracy",
)  # fmt: skip
HELD_OUT_TOPICS = (
    "penguins", "the Great Wall of China", "magnets", "chocolate", "robots", "tornadoes",
    "swimming", "the alphabet", "whales", "telescopes",
)  # fmt: skip
QUESTIONS = (
    "What is {} about?", "Why is {} important?", "Explain {} to a child.",
    "Tell me something about {}.",
    "How does {} affect our lives?", "What should a beginner know about {}?",
    "Give me one interesting fact about {}.", "What do people like about {}?",
)  # fmt: skip


def live_prompts(seed: int) -> list[str]:
    """Return each question about each topic, shuffled."""
    prompts = [question.format(topic) for topic in TOPICS for question in QUESTIONS]
    random.Random(seed).shuffle(prompts)
    return prompts


def held_out_prompts() -> list[str]:
    """Return prompts about topics that no user asks about while the model learns."""
    return [
        question.format(topic)
        for number, topic in enumerate(HELD_OUT_TOPICS)
        for question in (
            QUESTIONS[number % 8],
            QUESTIONS[(number + 3) % 8],
            QUESTIONS[(number + 5) % 8],
        )
    ]


def meets(answer: str) -> bool:
    """Whether the answer is what the users want."""
    answer = answer.strip()
    return bool(_WANTED.fullmatch(answer)) and len(answer.split()) <= MAX_WORDS + 2


def corrected(answer: str) -> str:
    """Return the answer that the users want: its first sentence, shortened if it is too long."""
    text = " ".join(answer.replace(START.strip(), "").split())
    sentence = re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0] or "I do not know."
    words = sentence.split()[:MAX_WORDS]
    return START + " ".join(words).rstrip(",;:.!?") + "."


FUNCTION_WORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "for", "from", "has", "have", "in",
    "is", "it",
    "its", "of", "on", "or", "that", "the", "their", "this", "to", "was", "which", "with", "you",
    "your",
})  # fmt: skip


def sensible(answer: str) -> bool:
    """Whether an answer is English prose at all, which is what less demanding users ask for."""
    words = re.findall(r"[a-z']+", answer.lower())
    return len(words) >= 5 and sum(w in FUNCTION_WORDS for w in words) >= 0.15 * len(words)
