"""A short conversation in LoCoMo's form: what the demo remembers where no file is given to it."""

from __future__ import annotations

from typing import Any, Final

_SESSIONS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        "6:30 pm on 4 March, 2026",
        (
            "Noor: Hi Tomas! How was the move to the new flat?",
            "Tomas: Exhausting, but done. Third floor, no lift, and a piano. Never again.",
            "Noor: You kept the piano? I thought you had given it up.",
            "Tomas: Nobody could bear to sell it. My grandmother taught me on it when I was six.",
            "Noor: That is a good reason. I still cook everything without meat, by the way, since the farm visit.",
            "Tomas: Then come on Friday, I have a lentil recipe to try. Is there anything else you avoid?",
            "Noor: Walnuts. I am allergic, one of them sent me to the hospital in Porto.",
            "Tomas: Noted, no walnuts near you.",
        ),
    ),
    (
        "8:05 am on 29 March, 2026",
        (
            "Tomas: I did it, I signed up for the half marathon in Ghent.",
            "Noor: Really? When did you start running?",
            "Tomas: In January, along the canal, before work. My knee complains a little.",
            "Noor: My brother Idris is a physiotherapist. Let him look at it before you train harder.",
            "Tomas: That would be wonderful. How is your ceramics studio?",
            "Noor: The kiln broke in the middle of a firing. Forty bowls, all cracked.",
            "Tomas: Oh no. Were they for the market?",
            "Noor: For a restaurant called Saltgrass. They have given me until June.",
        ),
    ),
    (
        "7:45 pm on 17 May, 2026",
        (
            "Noor: The new kiln is here! I named it Vesuvius.",
            "Tomas: Let us hope it is calmer than that. How many bowls are done?",
            "Noor: Thirty of forty. The glaze is a green that I mix from wood ash.",
            "Tomas: Beautiful. I ran two hours on Sunday, and the knee held. Idris gave me exercises.",
            "Noor: He told me that you are his most obedient patient.",
            "Tomas: One thing before dinner next week: do you still eat cheese?",
            "Noor: Not any more, I am fully vegan now, so no eggs either.",
            "Tomas: Good to know. I will leave the butter out of the lentils as well.",
        ),
    ),
    (
        "9:20 pm on 12 June, 2026",
        (
            "Tomas: One hour and fifty-two minutes! Ghent was flat and full of people with drums.",
            "Noor: Congratulations! Saltgrass paid for the bowls on the same day.",
            "Tomas: Then we both have something to celebrate. What will you do with the money?",
            "Noor: I am going to Japan in autumn, to learn from a potter in Mashiko.",
            "Tomas: I envy you. I shall be here with my piano and, from July on, a dog.",
            "Noor: A dog on the third floor without a lift?",
            "Tomas: A small one. Her name is Pim, and she is afraid of pigeons.",
            "Noor: I cannot wait to meet her.",
        ),
    ),
)

_QUESTIONS: Final = (
    ("Who taught Tomas to play the piano?", "his grandmother", "D1:4"),
    ("What does Noor not eat?", "meat", "D1:5"),
    ("What is Noor allergic to?", "walnuts", "D1:7"),
    ("Which race did Tomas sign up for?", "the half marathon in Ghent", "D2:1"),
    ("What is the profession of Noor's brother Idris?", "physiotherapist", "D2:4"),
    ("What happened to Noor's kiln during a firing?", "it broke, and forty bowls cracked", "D2:6"),
    ("For which restaurant does Noor make bowls?", "Saltgrass", "D2:8"),
    ("What did Noor name the new kiln?", "Vesuvius", "D3:1"),
    ("What is the green glaze mixed from?", "wood ash", "D3:3"),
    ("What does Noor not eat?", "meat, cheese or eggs: she is vegan", "D3:7"),
    ("How long did Tomas run in Ghent?", "an hour and 52 minutes", "D4:1"),
    ("Where will Noor learn from a potter?", "in Mashiko, Japan", "D4:4"),
    ("What is the name of Tomas's dog?", "Pim", "D4:7"),
)


def samples() -> list[dict[str, Any]]:
    """The one conversation, as a file of LoCoMo has it."""
    said: dict[str, Any] = {"speaker_a": "Noor", "speaker_b": "Tomas"}
    for number, (when, lines) in enumerate(_SESSIONS, 1):
        said[f"session_{number}_date_time"] = when
        said[f"session_{number}"] = [
            {"speaker": speaker, "dia_id": f"D{number}:{place}", "text": text}
            for place, line in enumerate(lines, 1)
            for speaker, _, text in [line.partition(": ")]
        ]
    asked = [
        {"question": question, "answer": answer, "evidence": [turn], "category": 4}
        for question, answer, turn in _QUESTIONS
    ]
    return [{"sample_id": "small-talk", "conversation": said, "qa": asked}]
