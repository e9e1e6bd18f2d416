"""The library's files: the templates of one group of tasks each, and the fields they share.

A file holds:

    fields:                   # only those that _fields.yaml does not have
      dish: {kind: line, about: the name of a dish, also: [meal]}    # kinds: template_values.KINDS
    templates:
      recipe-steps:
        version: 1            # raised with every change of what is written; a test holds you to it
        kind: generation      # the kind a task.yaml with it has
        about: One sentence.
        fields: [dish, ingredients]
        optional: [servings]  # `{% if servings %}`: absent or blank is empty text
        choices: label        # a list; a label field (its labels); an options field; or left out
        unless: [{if: "title == text", because: "title and text are the same"}]
        answer_in_input: why  # only where the answer may stand in the input, as in extraction
        output: "{{ steps }}"
        phrasings:            # three or more; the first is the plainest and the default
          plain: |
            How do I cook {{ dish }}?
          ...: {weight: 2, input: "...", output: "..."}   # where it has its own weight or output
        example: {dish: ...}  # one row, by field

Besides its fields a template sees `choices` (a list; empty where there are too many to name) and
`draw`, a whole number from 0 to 9999 that the row decides, for templates that show one of two.
"""
