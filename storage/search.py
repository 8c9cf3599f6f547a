"""Words for the full-text index, the same for both databases and for any alphabet.

The databases would each cut texts in their own way, and neither cuts Chinese, Japanese or Thai at all. So words are
made here: lower-cased and folded (NFKC, without accents' variants of the same letter), and scripts that are written
without blanks become one word per character, to be found as phrases.
"""

import re
import unicodedata

MAX_WORDS = 20_000  # per text: enough for a book chapter, and far below what one index entry may hold
MAX_WORD_CHARACTERS = 64

# What a tsvector can hold of one word.
MAX_PLACES = 255
MAX_POSITION = 16_383

# Of the words of one text; with what a case has already it stays below the 1 MB that a tsvector can be.
MAX_VECTOR_BYTES = 500_000

# Han, kana, Hangul syllables are searched for by parts of a run; Thai, Lao, Khmer, Burmese know no blanks.
UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff"
    r"\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])[^\W_])(?:(?![{UNSPACED}])[\w])*")
ONE_UNSPACED = re.compile(rf"[{UNSPACED}]")


def words(text: str) -> list[str]:
    """The words of a text in order."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    decomposed = unicodedata.normalize("NFKD", folded)
    plain = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
    plain = unicodedata.normalize("NFKC", plain)
    found: list[str] = []
    for match in WORD.finditer(plain):
        found.append(match.group()[:MAX_WORD_CHARACTERS])
        if len(found) == MAX_WORDS:
            break
    return found


def phrases(query: str) -> list[list[str]]:
    """The query as phrases, all of which must be found: a word by itself, or a run of unspaced characters."""
    result: list[list[str]] = []
    for part in query.split():
        run: list[str] = []
        for word in words(part):
            if ONE_UNSPACED.fullmatch(word):
                run.append(word)
            else:
                if run:
                    result.append(run)
                    run = []
                result.append([word])
        if run:
            result.append(run)
    return result


def fts5_document(text: str) -> str:
    return " ".join(words(text))


def fts5_query(query: str, *, beginnings: bool) -> str | None:
    """An FTS5 expression, or None where the query holds no word; single words as they are or as beginnings."""
    star = "*" if beginnings else ""
    return " AND ".join(f'"{" ".join(phrase)}"' + star * (len(phrase) == 1) for phrase in phrases(query)) or None


def tsvector(text: str) -> str:
    """The text form of a tsvector; what is too much for PostgreSQL is left out."""
    positions: dict[str, list[int]] = {}
    size = 0
    for position, word in enumerate(words(text), start=1):
        places = positions.get(word)
        if places is None:
            size += len(word.encode())
            if size > MAX_VECTOR_BYTES:
                break
            places = positions[word] = []
        if len(places) < MAX_PLACES and position < MAX_POSITION:
            places.append(position)
    return " ".join(
        f"'{word}':{','.join(map(str, places))}" if places else f"'{word}'" for word, places in positions.items()
    )


def tsquery(query: str, *, beginnings: bool) -> str | None:
    star = ":*" if beginnings else ""
    parts = [
        "(" + " <-> ".join(f"'{word}'" for word in phrase) + ")" if len(phrase) > 1 else f"'{phrase[0]}'{star}"
        for phrase in phrases(query)
    ]
    return " & ".join(parts) or None
