#include "engine/base/program.h"

/* Levels and what came with them:
 *
 *   1  everything up to 0.1 */
const struct program program = {.version = JUMUN_VERSION, .level_min = 1, .level_max = 1,
                                .order_event_schemas = {[1] = 1}};
