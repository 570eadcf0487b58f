/* Where an export goes, and how it goes on there: the file of --continue keeps how far each shard
 * was written and how long the output was then. What a run that did not come to its end has left
 * behind that, perhaps a torn event, is cut off before the next one writes. */
#ifndef JUMUN_REPLAY_EXPORT_OUTPUT_H
#define JUMUN_REPLAY_EXPORT_OUTPUT_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct export_output {
    FILE *file;                /* stdout, or the file's; NULL = a subscriber */
    char path[PATH_MAX];       /* of the file, from the root; "" = not a file of --output */
    bool regular;              /* a file that can be cut */
    bool named;                /* its name is durable */
    uint64_t there;            /* bytes in it when it was opened */
    uint64_t begin;            /* bytes before what this run writes */
};

/* Opens the file of --output (NULL, "-" = standard output): emptied, or, to be gone on with, as it
 * is, and held until it is closed: no second run goes on there. 0, or -1 with a sentence. */
int export_output_open(struct export_output *output, const char *path, bool goes_on, char *error,
                       size_t error_bytes);

/* Goes on where `place` tells, the content of the file of --continue at `place_path`: cuts off what
 * is behind. NULL, {} = nothing was noted; then behind what is there. 0, or -1 with a sentence:
 * another output than the one that was begun, or one that is not what it was. */
int export_output_go_on(struct export_output *output, const json_t *place, const char *place_path,
                        char *error, size_t error_bytes);

/* Whether something stands before what is written: no heading belongs there. */
bool export_output_is_begun(const struct export_output *output);

/* What was written is on the disk, and `place` says so: "output", "bytes", and "writing", that this
 * run goes on. 0, or -1 with errno. */
int export_output_note(struct export_output *output, json_t *place, bool writing);

/* 0, or -1 with errno. */
int export_output_close(struct export_output *output);

#endif
