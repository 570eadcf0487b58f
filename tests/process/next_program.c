/* Makes a jumund that stands for the next version: it can work at a level more, and writes events
 * of orders in a schema that the version before refuses to read. Linked in the place of
 * engine/base/program.c. */
#include "engine/base/program.h"

const struct program program = {.version = "next", .level_min = 1, .level_max = 2,
                                .order_event_schemas = {[1] = 1, [2] = 2}};
