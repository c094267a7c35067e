"""The user's files: text, tables and tokens, before there is a model.

    text_files        files, folders, patterns and archives to text, block by block
    foreign_bytes     what bytes probably are that are no text in the encoding that was named
    delimited         .csv and .tsv to records, however they are written
    json_rows         .jsonl and .json to records
    tables            rows and lines to texts
    dataset_config    the options of all this
    whole_files       files that have their names when they are complete
    pickles           pickles of other programs, without running anything
    token_files       tokens to files and back
    packing           many short texts in each window
    processes         several processors at work

`load_dataset.py` above puts them together: files to chunks of tokens, chunks to windows.
"""
