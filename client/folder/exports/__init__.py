"""A verified labelled folder in the formats that other tools read, and tar shards back again.

    hf           image files and metadata.jsonl, which datasets.load_dataset reads with classes
    parquet      the same rows, with the images inside Parquet files
    webdataset   tar shards, a manifest with their hashes, and DONE
    coco-cls     data/ and labels.json, whose boxes are whole images
    folder       from such tar shards, the labelled folder that they were made from

Each format is a module with one function that writes into an empty folder. `place.new_folder`
gives it that folder and its final name only once it is complete.
"""
