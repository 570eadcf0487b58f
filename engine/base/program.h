/* What this program is: its version, and which levels of a cluster it can work at.
 *
 * The level is a number of the whole cluster, kept in its document. It says what may be written to
 * logs: nothing that came with a higher level, so that every node can read what any of them writes
 * while they are replaced one after the other. It is raised by an explicit step (jumun cluster
 * raise-level) once all nodes can, and never sinks. A change of what is written to a log, or said
 * to other nodes and not skipped by those that do not know it:
 *
 *   1. add one to level_max, and what is written from that level on, in program.c;
 *   2. go on reading and writing the form before, as long as level_min stands below it.
 *
 * One struct in a file of its own: tests link another one in its place, and so make a program that
 * stands for the next version. Pure; any thread. */
#ifndef JUMUN_BASE_PROGRAM_H
#define JUMUN_BASE_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

enum { LEVEL_FIRST = 1, LEVELS_MAX = 64 };

struct program {
    const char *version;           /* below 32 bytes */
    uint8_t level_min, level_max;  /* of clusters that it can work in; below LEVELS_MAX */
    /* By level: the schema that events of orders are written with. The newest one that is read is
     * that of level_max. */
    uint8_t order_event_schemas[LEVELS_MAX];
};

extern const struct program program;

/* Where a level is stored, 0 stands for the first: it was so before there were others. */
static inline uint8_t program_level(uint64_t stored) {
    return stored == 0 ? LEVEL_FIRST : stored < UINT8_MAX ? (uint8_t)stored : UINT8_MAX;
}

static inline bool program_can(uint64_t level) {
    uint8_t l = program_level(level);
    return l >= program.level_min && l <= program.level_max;
}

#endif
