"""The models: an ordinary table with a vector of pgvector's; nothing in them is mrl_db's."""

from pgvector.sqlalchemy import Vector
from sqlalchemy import MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DIMS = 384


class Base(DeclarativeBase):
    """Base of all models."""

    metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s"})


class Package(Base):
    """A package, with its description and the description's embedding."""

    __tablename__ = "packages"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    section: Mapped[str] = mapped_column(Text, index=True)
    description: Mapped[str] = mapped_column(Text)
    embedding: Mapped[object] = mapped_column(Vector(DIMS))
