#include "engine/base/data_directory.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* In this order: a node's directory in which a replica has made its views is a node's, and one of
 * a replica in which nothing but a node's lock lies is a replica's. */
static const struct { const char *name; enum data_directory tells; } marks[] = {
    {"backup.json", DATA_DIRECTORY_BACKUP},
    {"node.json", DATA_DIRECTORY_NODE},
    {"cluster.msgpack", DATA_DIRECTORY_NODE},
    {"cluster.msgpack.adopted", DATA_DIRECTORY_NODE},
    {"shard-0", DATA_DIRECTORY_NODE},
    {"views/lock", DATA_DIRECTORY_REPLICA},
    {"views/data.mdb", DATA_DIRECTORY_REPLICA},
    {"views.incoming", DATA_DIRECTORY_REPLICA},
    {"lock", DATA_DIRECTORY_NODE}};

enum data_directory data_directory_of(const char *path) {
    char inside[4200];
    struct stat st;
    if (stat(path, &st) != 0)
        return errno == ENOTDIR ? DATA_DIRECTORY_NONE : DATA_DIRECTORY_FREE;
    if (!S_ISDIR(st.st_mode)) return DATA_DIRECTORY_NONE;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        snprintf(inside, sizeof inside, "%s/%s", path, marks[i].name);
        if (access(inside, F_OK) == 0) return marks[i].tells;
    }
    return DATA_DIRECTORY_FREE;
}

bool data_directory_is_refused(const char *path, enum data_directory own, char *error,
                               size_t error_bytes) {
    enum data_directory found = data_directory_of(path);
    if (found == own || found == DATA_DIRECTORY_FREE) return false;
    switch (found) {
    case DATA_DIRECTORY_NODE:
        snprintf(error, error_bytes, "%s is the data directory of a node (jumund): its orders are "
                 "there. Give another --data", path);
        break;
    case DATA_DIRECTORY_REPLICA:
        snprintf(error, error_bytes, "%s is the directory of a replica (jumun-replica), which has "
                 "views and no logs: give another --data", path);
        break;
    case DATA_DIRECTORY_BACKUP:
        snprintf(error, error_bytes, "%s is a backup: make a data directory of it with "
                 "jumun-replay restore", path);
        break;
    default: snprintf(error, error_bytes, "%s is not a directory", path);
    }
    return true;
}
