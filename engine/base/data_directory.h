/* Whose a directory given as --data is, by what lies in it: a node and a replica refuse each
 * other's, for both make in an unknown one what they lack, and whoever empties a replica's would
 * empty a node's. Blocks for the disk; any thread. */
#ifndef JUMUN_BASE_DATA_DIRECTORY_H
#define JUMUN_BASE_DATA_DIRECTORY_H

#include <stdbool.h>
#include <stddef.h>

enum data_directory {
    DATA_DIRECTORY_FREE,       /* nothing is known to be there: empty, or to be made */
    DATA_DIRECTORY_NODE,       /* a node's, also one that waits for a cluster */
    DATA_DIRECTORY_REPLICA,
    DATA_DIRECTORY_BACKUP,     /* jumun-replay made it */
    DATA_DIRECTORY_NONE        /* something else has that name */
};

enum data_directory data_directory_of(const char *path);

/* Whether a program whose directories are `own` must leave it alone; true with a sentence in
 * error. */
bool data_directory_is_refused(const char *path, enum data_directory own, char *error,
                               size_t error_bytes);

#endif
