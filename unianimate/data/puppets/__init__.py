"""Procedural puppets: people that are drawn, in motion, with exact poses."""

from .gallery import puppet_gallery
from .puppet import Puppet

__all__ = ["Puppet", "puppet_gallery"]
