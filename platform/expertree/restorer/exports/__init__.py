"""A bundle's experts, or all of it, as files that other programs open."""

from expertree.restorer.exports.forms import FORMS, Form, export_expert

__all__ = ["FORMS", "Form", "export_expert"]
