"""How types are checked while tests run: beartype, for which a whole number is also a number (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
