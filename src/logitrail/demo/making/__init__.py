"""How the embedded model is made: `python -m logitrail.demo.making --out DIR` rebuilds all of it.

`words` is the lexicon, `grammar` turns it into corpora and prompt sets, `task` is the fine-tuning task that
the model does not know, `refusals` holds the refusal wordings and the check that recognises them, `build`
trains. Nothing here was copied from a data set, and no text here says how to do harm.
"""
