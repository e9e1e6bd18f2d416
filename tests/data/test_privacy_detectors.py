"""Each detector: what it finds, and the near misses that it must leave alone."""

from __future__ import annotations

import base64
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.privacy import find
from luthier.data.privacy.detectors.credit_card import luhn
from luthier.data.privacy.detectors.iban import LENGTHS, remainder_97

#: Random, the same each time: keys of makers are made here, so that no file of ours holds one.
_CHANCE = random.Random(7)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def made(prefix: str, length: int, letters: str = _LETTERS) -> str:
    return prefix + "".join(_CHANCE.choices(letters, k=length))


def found(text: str, kind: str, least: float = 0.7) -> list[str]:
    return [span.text for span in find(text, least=least) if span.type == kind]


# (kind, text, what is found in it)
TRUE = [
    ("CREDIT_CARD", "card 4539148803436467 thanks", "4539148803436467"),
    ("CREDIT_CARD", "pay with 5425 2334 3010 9903", "5425 2334 3010 9903"),
    ("CREDIT_CARD", "Amex: 3400 123456 78902", "3400 123456 78902"),
    ("IBAN", "to DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00"),
    ("IBAN", "GB82WEST12345698765432.", "GB82WEST12345698765432"),
    ("IBAN", "fr1420041010050500013m02606", "fr1420041010050500013m02606"),
    ("US_SSN", "it is 536-90-4399.", "536-90-4399"),
    ("US_SSN", "my SSN is 536 90 4399", "536 90 4399"),
    ("US_SSN", "social security number: 536904399", "536904399"),
    ("PHONE", "+46 70 174 06 58", "+46 70 174 06 58"),
    ("PHONE", "call me at (212) 736-5000 today", "(212) 736-5000"),
    ("PHONE", "Tel. 030 901820", "030 901820"),
    ("PHONE", "my number is 020 7946 0958", "020 7946 0958"),
    ("PHONE", "WhatsApp +91 98765 43210", "+91 98765 43210"),
    ("PHONE", "+33 1 42 68 53 00, ask for me", "+33 1 42 68 53 00"),
    ("PHONE", "+81-3-3224-5000", "+81-3-3224-5000"),
    ("PHONE", "fax: +55 11 3059 1000", "+55 11 3059 1000"),
    ("EMAIL", "mail anna.l+x@firma-a.co.uk.", "anna.l+x@firma-a.co.uk"),
    ("EMAIL", "<jörg@müller.de>", "jörg@müller.de"),
    ("IP_ADDRESS", "from 84.23.101.7 again", "84.23.101.7"),
    ("IP_ADDRESS", "host 2a00:1450:4001:82a::200e up", "2a00:1450:4001:82a::200e"),
    ("MAC_ADDRESS", "eth0 3c:22:fb:9a:01:7e", "3c:22:fb:9a:01:7e"),
    ("CRYPTO_WALLET", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    (
        "CRYPTO_WALLET",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
    ),
    ("NATIONAL_ID", "CF RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    ("NATIONAL_ID", "DNI 12345678Z", "12345678Z"),
    ("NATIONAL_ID", "BSN: 123456782", "123456782"),
    ("NATIONAL_ID", "CPF 111.444.777-35", "111.444.777-35"),
    ("PASSPORT", "passport number C01X00T47", "C01X00T47"),
    ("DRIVER_LICENSE", "my driver's license is D1234567", "D1234567"),
    ("DATE_OF_BIRTH", "born on 12 March 1987", "12 march 1987"),
    ("DATE_OF_BIRTH", "DOB: 03/12/1987", "03/12/1987"),
    ("ADDRESS", "at 221B Baker Street, London", "221B Baker Street, London"),
    ("ADDRESS", "Lindenstraße 14, 10969 Berlin", "Lindenstraße 14, 10969 Berlin"),
    ("ADDRESS", "12 rue de la Paix", "12 rue de la Paix"),
    ("ADDRESS", "P.O. Box 4711", "P.O. Box 4711"),
    ("PERSON", "I met Dr. Miriam Okonkwo-Hale", "Miriam Okonkwo-Hale"),
    ("PERSON", "Regards,\nJan de Vries", "Jan de Vries"),
    ("PERSON", "my name is tomasz nowak", "tomasz nowak"),
    ("PERSON", "ask my daughter Florence about it", "Florence"),
    ("PERSON", "my colleague Zorvin Qualm left", "Zorvin Qualm"),
    ("PERSON", "What is your last name? Quarnt", "Quarnt"),
    ("URL", "see https://firma.se/a?b=1.", "https://firma.se/a?b=1"),
    ("CONNECTION_STRING", "postgres://app:kV9x2Lq8@db.firma.se/x", None),
    ("PASSWORD", 'password = "kj3!Xq9$zz"', "kj3!Xq9$zz"),
    ("PASSWORD", "password: Summer2024!", "Summer2024!"),
    ("PASSWORD", "?token=abc&password=Zebra99xq&x=1", "Zebra99xq&x=1"),
    ("SECRET", "secret: dGhpcyBpczQyIGEgc2VjcmV0IDk5==", "dGhpcyBpczQyIGEgc2VjcmV0IDk5=="),
    ("AGE", "she is 34 years old", "34"),
    ("DATE", "on 2021-03-04 we", "2021-03-04"),
    ("ORGANIZATION", "sold to Nordvik Holdings", "Nordvik Holdings"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "value"), TRUE, ids=[f"{k}:{t[:24]}" for k, t, _ in TRUE])
def test_what_is_found(kind: str, text: str, value: str | None) -> None:
    values = found(text, kind)
    if value is None:
        assert values
    else:
        assert [v.lower() for v in values] == [value.lower()]


FALSE = [
    ("CREDIT_CARD", "card 4539148803436468"),  # Luhn
    ("CREDIT_CARD", "order 1234567890123452"),  # Luhn, and no issuer
    ("CREDIT_CARD", "0.4539148803436467"),
    ("CREDIT_CARD", "4111111111111111"),  # published for tests
    ("IBAN", "DE89 3704 0044 0532 0130 01"),  # mod 97
    ("IBAN", "XX82WEST12345698765432"),  # no such country
    ("IBAN", "DE89 3704 0044 0532 0130"),  # too short
    ("US_SSN", "000-12-3456"),
    ("US_SSN", "666-12-3456"),
    ("US_SSN", "912-12-3456"),
    ("US_SSN", "536-00-4399"),
    ("US_SSN", "536-90-0000"),
    ("US_SSN", "part 1536-90-4399"),
    ("PHONE", "order number 4711081509"),
    ("PHONE", "version 10.4.1.2032"),
    ("PHONE", "invoice 2024-0001234"),
    ("PHONE", "between 1914-1918 and 1939-1945"),
    ("PHONE", "12.05.2021 14:30"),
    ("PHONE", "it costs $1,299,000.00"),
    ("PHONE", "ISBN 978-3-16-148410-0"),
    ("PHONE", "pi is 3.14159265358979"),
    ("PHONE", "call 555-0123"),  # kept for fiction
    ("PHONE", "10 20 30 40 50 60"),
    ("EMAIL", "user@localhost"),
    ("EMAIL", "a @ b.com and @handle"),
    ("EMAIL", "you@example.com"),
    ("EMAIL", "git@github.com:x/y.git"),
    ("IP_ADDRESS", "version 1.2.3.4"),
    ("IP_ADDRESS", "999.1.2.3"),
    ("IP_ADDRESS", "127.0.0.1 and 192.168.0.1"),
    ("IP_ADDRESS", "std::vector<a::b>"),
    ("MAC_ADDRESS", "ff:ff:ff:ff:ff:ff"),
    ("CRYPTO_WALLET", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"),  # checksum
    ("CRYPTO_WALLET", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"),
    ("NATIONAL_ID", "RSSMRA85T10A562T"),
    ("NATIONAL_ID", "DNI 12345678A"),
    ("NATIONAL_ID", "CPF 111.444.777-36"),
    ("NATIONAL_ID", "using 111222333 rows"),
    ("PASSPORT", "a passport for 2021"),
    ("ADDRESS", "In 1946, Sierra Park opened"),
    ("ADDRESS", "Windows 10 and 3 apples"),
    ("PERSON", "The Quick Brown Fox"),
    ("PERSON", "Monday in March"),
    ("PERSON", "I like Wilson Park"),
    ("PERSON", "my friend, the weather and a mark on john"),
    ("PERSON", "Sorry, can you help?"),
    ("PERSON", "from St Georges to San Michele and San Francisco"),
    ("PERSON", "It was plan B. The end of Vitamin C."),
    ("PERSON", "his American friend"),
    ("PASSWORD", "the password is incorrect"),
    ("PASSWORD", "password = input()"),
    ("PASSWORD", "password: ${DB_PASSWORD}"),
    ("PASSWORD", "if password != stored1"),
    ("PASSWORD", "if password == user1: pass"),
    ("PASSWORD", "the password is incorrect!"),
    ("SECRET", "token = YOUR_TOKEN_HERE_1234567890"),
    ("CONNECTION_STRING", "postgres://user:password@host/db"),
    ("CONNECTION_STRING", "https://firma.se:8080/a@b"),
    ("AGE", "I am 100% sure, at 5:30"),
    ("DATE", "1.2.3 and 13/45"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), FALSE, ids=[f"{k}:{t[:24]}" for k, t in FALSE])
def test_near_misses(kind: str, text: str) -> None:
    assert found(text, kind) == []


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("ok anna svensson wrote it", "PERSON", "anna svensson"),
        ("with milena petrović here", "PERSON", "milena petrović"),
        ("Quarnt shouted at us", "PERSON", "Quarnt"),
        ('"Oh!" said Quarnt', "PERSON", "Quarnt"),
        ("Quarnt, can you help?", "PERSON", "Quarnt"),
        ("it is Quarnt's wife", "PERSON", "Quarnt"),
        ("Zorvin Qualm\nNordvik Inc\n27 President St", "PERSON", "Zorvin Qualm"),
        ("as James K. Polk said", "PERSON", "James K. Polk"),
        ("with Zorvin Q. Qualm today", "PERSON", "Zorvin Q. Qualm"),
        ("he grew up in Quarnt", "LOCATION", "Quarnt"),
        ("they moved here from Quarnt Bay", "LOCATION", "Quarnt Bay"),
        ("Hi,\nZIP: 11164", "ZIP_CODE", "11164"),
    ],
)
def test_what_is_found_by_what_stands_around_it(text: str, kind: str, value: str) -> None:
    assert found(text, kind, 0.5) == [value]


@pytest.mark.parametrize(
    "text",
    [
        "We ship version 2.10.3 on 2024-05-01 for $1,299.00 (order 1000234567, SKU 88-1234-01).",
        "def f(x: int) -> str: return x.y[3] * 0x1F + 1e-10  # see RFC 2119, ISO 8601",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "Score 101-99, 3:2; 1,024 x 768 px; 50 000 km; 19.99 EUR; 5-10 %; Q3 2023; A4; 4x4; 24/7",
        "uuid 550e8400-e29b-41d4-a716-446655440000 commit 3f2a9c1 line 120-134",
    ],
)
def test_plain_numbers_are_nobodys_data(text: str) -> None:
    spans = find(text, types=["secret", "identifier", "person"])
    assert spans == []


VENDORS = [
    made("AKIA", 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    made("AIza", 35),
    made("ghp_", 36),
    made("github_pat_", 60),
    made("glpat-", 20),
    made("xoxb-", 40),
    made("sk_live_", 24),
    made("sk-ant-api03-", 60),
    made("sk-proj-", 60),
    made("hf_", 34),
    made("npm_", 36),
    made("SG.", 22) + made(".", 43),
    made("dop_v1_", 64, "0123456789abcdef"),
    made("shpat_", 32, "0123456789abcdef"),
    made("5061728394:AA", 33),
    made("hvs.", 40),
]


@pytest.mark.parametrize("key", VENDORS, ids=[key[:7] for key in VENDORS])
def test_keys_of_makers(key: str) -> None:
    assert found(f"export KEY={key}\nnext", "API_KEY") == [key]
    assert found(f"`{key}`", "API_KEY") == [key]
    assert found(f"({key[:9]})", "API_KEY") == []  # too short
    assert found(f"x{key}", "API_KEY") == []  # inside another word


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "sk-learn-is-not-the-name-of-a-key-at-all",
        "sk_test_your_key_goes_here_please",
        "hf_" + "a" * 34,
    ],
)
def test_what_stands_for_a_key(text: str) -> None:
    assert find(text, types=["secret"]) == []


def test_signed_tokens() -> None:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    token = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': '12345'})}.{made('', 43)}"
    assert found(f"Bearer {token}", "JWT") == [token]
    other = f"{part({'name': 'no header at all'})}.{part({'sub': '12345'})}.{made('', 43)}"
    assert found(f"x {other}", "JWT") == []


def test_private_keys() -> None:
    body = "\n".join(made("", 64) for _ in range(6))
    block = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    assert found(f"a\n{block}\nb", "PRIVATE_KEY") == [block]
    escaped = block.replace("\n", "\\n")
    assert found(f'{{"key": "{escaped}"}}', "PRIVATE_KEY") == [escaped]
    cut = block[:200]  # the end was cut off
    assert found(cut, "PRIVATE_KEY") == [cut]
    public = block.replace("RSA PRIVATE", "PUBLIC")
    assert find(public, types=["PRIVATE_KEY"]) == []
    empty = "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----"
    assert find(empty, types=["PRIVATE_KEY"]) == []


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**14 - 1), st.integers(1, 9))
def test_luhn_refuses_every_wrong_check_digit(number: int, off: int) -> None:
    first = f"4{number:014d}"
    check = next(d for d in range(10) if luhn(f"{first}{d}"))
    right, wrong = f"{first}{check}", f"{first}{(check + off) % 10}"
    assert not luhn(wrong)
    assert found(f"card {wrong}", "CREDIT_CARD", 0.5) == []
    if len(set(right)) > 2:
        assert found(f"card {right}", "CREDIT_CARD", 0.5) == [right]


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(LENGTHS)), st.randoms(use_true_random=False), st.integers(1, 96))
def test_mod_97_of_every_country(country: str, chance: random.Random, off: int) -> None:
    account = "".join(chance.choices("0123456789", k=LENGTHS[country] - 4))
    check = 98 - remainder_97(f"{country}00{account}")
    iban = f"{country}{check:02d}{account}"
    assert found(f"IBAN {iban} ok", "IBAN") == [iban]
    wrong = f"{country}{(check + off) % 97 + 2:02d}{account}"
    if remainder_97(wrong) != 1:
        assert found(f"pay {wrong} ok", "IBAN", 0.5) == []
