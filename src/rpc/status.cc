#include <cerrno>

#include "rpc/ttrpc.h"

namespace caisson::rpc {
namespace {

// google.rpc.Code and the errno value that stands for its kind. The first row of a code is the one that errno_from_status gives.
struct Row {
  int status;
  int code;
};
constexpr Row kRows[] = {
    {1, ECANCELED}, {2, EIO},         {3, EINVAL},        {3, E2BIG},   {3, ENAMETOOLONG}, {3, ENOTDIR},  {3, ELOOP},
    {4, ETIMEDOUT}, {5, ENOENT},      {5, ESRCH},         {5, ENODEV},  {5, ENXIO},        {6, EEXIST},   {7, EPERM},
    {7, EACCES},    {8, ENOMEM},      {8, ENOSPC},        {8, EMFILE},  {8, ENFILE},       {8, EDQUOT},   {9, EBUSY},
    {9, EALREADY},  {9, ENOTEMPTY},   {10, EAGAIN},       {11, ERANGE}, {11, EOVERFLOW},   {12, ENOSYS},  {12, EOPNOTSUPP},
    {13, EPROTO},   {14, ECONNRESET}, {14, ECONNREFUSED}, {14, EPIPE},  {14, ENOTCONN},    {15, EBADMSG}, {16, EKEYREJECTED},
};

}  // namespace

int status_from_errno(int code) {
  for (const Row& row : kRows)
    if (row.code == code) return row.status;
  return 2;
}

int errno_from_status(int status) {
  for (const Row& row : kRows)
    if (row.status == status) return row.code;
  return EIO;
}

}  // namespace caisson::rpc
