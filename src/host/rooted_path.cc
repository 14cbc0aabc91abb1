#include "host/rooted_path.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include <deque>
#include <vector>

namespace caisson::host {
namespace {

constexpr int kMaxLinks = 255;  // as crossing more means a loop

void prepend(std::deque<std::string>& components, std::string_view path) {
  std::vector<std::string> parts;
  for (size_t start = 0; start <= path.size();) {
    size_t end = path.find('/', start);
    if (end == std::string_view::npos) end = path.size();
    const std::string_view part = path.substr(start, end - start);
    if (!part.empty() && part != ".") parts.emplace_back(part);
    start = end + 1;
  }
  components.insert(components.begin(), parts.begin(), parts.end());
}

// A walk from the root: the folders entered so far, and what is still to be walked.
class Walk {
 public:
  Walk(int root, const std::string& path, Missing missing, mode_t folder_mode)
      : root_(root), path_(path), missing_(missing), folder_mode_(folder_mode) {
    prepend(components_, path);
  }

  Result<RootedPath> run() {
    while (!components_.empty()) {
      const std::string name = std::move(components_.front());
      components_.pop_front();
      if (name == "..") {
        if (!entered_.empty()) entered_.pop_back();
        continue;
      }
      TRY(step(name));
    }
    RootedPath result;
    for (const Entry& entry : entered_) result.path += "/" + entry.name;
    if (result.path.empty()) result.path = "/";
    if (entered_.empty()) {
      result.fd.reset(openat(root_, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (!result.fd) return errno_error("cannot open the root for {}", path_);
    } else {
      result.fd = std::move(entered_.back().fd);
    }
    return result;
  }

 private:
  struct Entry {
    UniqueFd fd;
    std::string name;
  };

  int here() const { return entered_.empty() ? root_ : entered_.back().fd.get(); }

  Result<void> step(const std::string& name) {
    UniqueFd fd(openat(here(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!fd && errno == ENOENT && missing_ != Missing::Fail) fd = TRY(make(name));
    if (!fd) return errno_error("cannot open {} of {}", name, path_);
    struct stat info;
    if (fstat(fd.get(), &info) != 0) return errno_error("cannot stat {} of {}", name, path_);
    if (S_ISLNK(info.st_mode)) return follow(fd.get(), name);
    if (!S_ISDIR(info.st_mode) && !components_.empty()) return make_error(ENOTDIR, "{} of {} is not a folder", name, path_);
    entered_.push_back({std::move(fd), name});
    return {};
  }

  Result<UniqueFd> make(const std::string& name) {
    if (components_.empty() && missing_ == Missing::MakeFile) {
      const UniqueFd file(openat(here(), name.c_str(), O_CREAT | O_EXCL | O_NOFOLLOW | O_RDONLY | O_CLOEXEC, 0644));
      if (!file && errno != EEXIST) return errno_error("cannot create file {}", path_);
    } else if (mkdirat(here(), name.c_str(), folder_mode_) != 0 && errno != EEXIST) {
      return errno_error("cannot create folder {} of {}", name, path_);
    }
    UniqueFd fd(openat(here(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return errno_error("cannot open {} of {}", name, path_);
    return fd;
  }

  Result<void> follow(int link, const std::string& name) {
    if (++links_ > kMaxLinks) return make_error(ELOOP, "{} has too many symbolic links", path_);
    char target[PATH_MAX];
    const ssize_t length = readlinkat(link, "", target, sizeof target);
    if (length < 0) return errno_error("cannot read symbolic link {} of {}", name, path_);
    if (length > 0 && target[0] == '/') entered_.clear();
    prepend(components_, std::string_view(target, static_cast<size_t>(length)));
    if (components_.size() > PATH_MAX) return make_error(ENAMETOOLONG, "{} grows too long by its symbolic links", path_);
    return {};
  }

  int root_;
  const std::string& path_;
  Missing missing_;
  mode_t folder_mode_;
  std::deque<std::string> components_;
  std::vector<Entry> entered_;
  int links_ = 0;
};

}  // namespace

Result<RootedPath> open_in_root(int root, const std::string& path, Missing missing, mode_t folder_mode) {
  return Walk(root, path, missing, folder_mode).run();
}

Result<RootedParent> open_parent_in_root(int root, const std::string& path) {
  size_t end = path.size();
  while (end > 0 && path[end - 1] == '/') --end;
  const size_t slash = end == 0 ? std::string::npos : path.rfind('/', end - 1);
  const size_t start = slash == std::string::npos ? 0 : slash + 1;
  RootedParent parent;
  parent.name = path.substr(start, end - start);
  if (parent.name.empty() || parent.name == "." || parent.name == "..") return make_error(EINVAL, "{} does not name a file", path);
  parent.folder = TRY(open_in_root(root, path.substr(0, start), Missing::MakeFolder)).fd;
  return parent;
}

}  // namespace caisson::host
