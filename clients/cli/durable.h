/* Files that tell how far a command got, and what they tell of: neither is believed before it is on
 * the disk, also when the machine stops, not only the command. */
#ifndef JUMUN_CLI_DURABLE_H
#define JUMUN_CLI_DURABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What was written goes out, and, of a regular file, onto the disk. False: not; see errno. */
bool durable_sync(FILE *file);

/* The name of a file in its directory is durable. False: not; see errno. */
bool durable_name(const char *path);

/* Puts `json` (released; NULL fails) into the file, on one line: written beside, synced and
 * renamed, so that a crash leaves the old file or the new one. 0, or -1 with a sentence. */
int durable_json(const char *path, json_t *json, char *error, size_t error_bytes);

#endif
