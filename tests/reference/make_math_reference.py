"""Writes math.json: elementary functions of chosen arguments to far more digits than f64 has.

    python -m venv venv && venv/bin/pip install mpmath==1.4.1
    venv/bin/python tests/reference/make_math_reference.py tests/reference/math.json [ARGUMENTS]

A case is [argument, …, nearest, thousandths]: bits of f64 in hexadecimal, and how far the true value lies above the
nearest f64 in thousandths of its last place. ARGUMENTS per function, 250 unless told: over all exponents, near 1,
near multiples of pi/2 (the nearest of all among them), near what is special to a function, and where it is used most.
"""

import json
import math
import platform
import random
import struct
import sys

import mpmath
from mpmath import mp, mpf

PRECISION = 400


def bits(x):
    return "%x" % struct.unpack("<Q", struct.pack("<d", x))[0]


def from_bits(n):
    return struct.unpack("<d", struct.pack("<Q", n))[0]


def any_number(draw):
    """Over all exponents, subnormal ones too."""
    return from_bits(draw.getrandbits(63) % 0x7FF0000000000000)


def near_quarter_turns(draw):
    """f64 next to a multiple of pi/2 of random size, the convergents of pi/2 among them."""
    n = draw.choice([11, 22, 33, 344, 355, 710, 51819, 52174, 103993, 208341, 833719, draw.randrange(1, 4000)])
    n = draw.choice([n, draw.getrandbits(draw.randrange(1, 1023)) | 1])
    mp.prec = 2500
    return math.nextafter(float(n * mp.pi / 2), draw.choice([0, math.inf]))


# The f64 nearest to a multiple of pi/2 (Muller, Elementary Functions, 2006), the nearest to pi/2 and pi, where the
# reduction changes its way, and the largest.
HARD_TURNS = [6381956970095103 * 2.0**797, math.pi / 2, math.pi, 1e22, 1048575.9, 1048576.0, math.pi / 4, sys.float_info.max]


def circular(draw):
    return draw.choice([any_number, near_quarter_turns, lambda d: d.uniform(0, 8), lambda d: d.uniform(0, 1e6)])(draw)


def to_one(draw):
    """In [0, 1], near both ends and in between."""
    ends = [lambda d: math.ldexp(d.random(), -d.randrange(60)), lambda d: 1 - math.ldexp(d.random(), -d.randrange(53))]
    return draw.choice(ends + [lambda d: d.random()])(draw)


def from_one(draw):
    """Above 1, near it and far."""
    near = lambda d: 1 + math.ldexp(d.random(), -d.randrange(52))
    return draw.choice([near, lambda d: math.ldexp(1 + d.random(), d.randrange(1024)), lambda d: d.uniform(1, 20)])(draw)


def everywhere(draw):
    near = lambda d: math.ldexp(1 + d.random(), d.randrange(-40, 40))
    return draw.choice([any_number, near, lambda d: d.uniform(0, 4), lambda d: 1 + d.uniform(-1, 1) * 1e-6])(draw)


def exponents(draw):
    return draw.choice([lambda d: d.uniform(0, 710.4), lambda d: d.uniform(0, 25), lambda d: math.ldexp(d.random(), -d.randrange(60))])(draw)


def either_sign(numbers):
    return lambda draw: (numbers(draw) * draw.choice([1, -1]),)


def positive(numbers):
    return lambda draw: (numbers(draw) or 1.0,)


def points(draw):
    """Two legs: of any size, of like size, of sizes just where one stops counting."""
    y = any_number(draw) or 1.0
    near = max(min(y * math.ldexp(1 + draw.random(), draw.choice([0, 0, 5, -5, 30, -30, 58, -59, -61])), 1e308), 1e-320)
    x = draw.choice([any_number(draw) or 1.0, near, near])
    return (y * draw.choice([1, -1]), x * draw.choice([1, -1]))


def bases(draw):
    base = draw.choice([2.0, 10.0, 3.0, 1.5, 0.1, draw.uniform(0.5, 2), 1 + draw.uniform(-1, 1) * 1e-9])
    return (base, everywhere(draw) or 1.0)


def powers(draw):
    base = draw.choice([draw.uniform(0, 2), draw.uniform(0, 1000), 1 + draw.uniform(-1, 1) * 1e-6])
    return (base or 1.0, draw.uniform(-1, 1) * min(690 / abs(math.log(base or 1.0) or 1.0), 1e9))


def cube_root(x):
    return mp.cbrt(x) if x >= 0 else -mp.cbrt(-x)


# name, function, arguments, arguments that must be there
FUNCTIONS = [
    ("sin", mp.sin, either_sign(circular), HARD_TURNS),
    ("cos", mp.cos, either_sign(circular), HARD_TURNS),
    ("tan", mp.tan, either_sign(circular), HARD_TURNS),
    ("cot", mp.cot, either_sign(lambda d: circular(d) or 1.0), HARD_TURNS),
    ("asin", mp.asin, either_sign(to_one), [0.5, 1.0]),
    ("acos", mp.acos, either_sign(to_one), [0.5, -1.0, -0.5]),
    ("atan", mp.atan, either_sign(everywhere), [1.0, 0.0625, 0.4375, 0.6875, 1.1875, 2.4375]),
    ("atan2", mp.atan2, points, []),
    ("sinh", mp.sinh, either_sign(exponents), [22.0, 0.34657359027997264, 710.4758600739439]),
    ("cosh", mp.cosh, either_sign(exponents), [22.0, 0.34657359027997264, 710.4758600739439]),
    ("tanh", mp.tanh, either_sign(exponents), [22.0, 19.0, 0.34657359027997264, 0.5]),
    ("asinh", mp.asinh, either_sign(everywhere), [268435456.0, 268435455.0, 2.0**-28]),
    ("acosh", mp.acosh, positive(from_one), [268435456.0, 268435455.0, 1 + 2.0**-52]),
    ("atanh", mp.atanh, either_sign(lambda d: min(to_one(d), 1 - 2.0**-53)), [1 - 2.0**-53, 2.0**-28]),
    ("cbrt", cube_root, either_sign(everywhere), [5e-324, 27.0, 1.7976931348623157e308]),
    ("log2", lambda x: mp.log(x) / mp.log(2), positive(everywhere), [5e-324, 3.0]),
    ("log10", mp.log10, positive(everywhere), [5e-324, 1e22, 2.0]),
    ("log", lambda base, x: mp.log(x) / mp.log(base), bases, []),
    ("ln", mp.log, positive(everywhere), [2.0, 5e-324]),
    ("exp", mp.exp, either_sign(lambda d: min(exponents(d), 709)), [1.0, -745.0]),
    ("pow", mp.power, powers, []),
]


def precision_for(arguments):
    """Enough that what a tiny argument adds to 1 is kept."""
    return PRECISION + 4 * max(abs(math.frexp(x)[1]) for x in arguments)


def case(function, arguments):
    """None where the result overflows."""
    mp.prec = precision_for(arguments)
    exact = function(*[mpf(x) for x in arguments])
    nearest = float(exact)
    if math.isinf(nearest):
        return None
    off = (exact - mpf(nearest)) / mpf(math.ulp(nearest))
    return [bits(x) for x in arguments] + [bits(nearest), int(mp.nint(off * 1000))]


def main(path, count=250):
    draw = random.Random(20_261_122)
    functions = {}
    for name, function, arguments, required in FUNCTIONS:
        cases = [case(function, (x,)) for x in required]
        while len(cases) < count:
            cases += filter(None, [case(function, arguments(draw))])
        functions[name] = cases
    versions = {"python": platform.python_version(), "mpmath": mpmath.__version__}
    command = "python tests/reference/make_math_reference.py tests/reference/math.json"
    with open(path, "w", encoding="utf-8") as out:
        out.write('{\n "command": %s,\n "versions": %s,\n "functions": {' % (json.dumps(command), json.dumps(versions)))
        for i, (name, cases) in enumerate(functions.items()):
            out.write("%s\n  %s: [\n" % ("," if i else "", json.dumps(name)))
            out.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n  ]")
        out.write("\n }\n}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
