"""The names of before for `mrl_db.learn.transform`, until no module imports them."""

from mrl_db.learn.transform import Transform as Change
from mrl_db.learn.transform import check_transform as check_change
from mrl_db.learn.transform import transform_from_bytes as change_from_bytes

__all__ = ["Change", "change_from_bytes", "check_change"]
