"""`bedside model promote | rollback | shadow | compare | show`: which version of a model is in force here."""
