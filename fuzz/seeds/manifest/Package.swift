let package = Package(dependencies: [
  .package(url: "https://github.com/a/b.git", from: "1.0.0"),
  .package(name: "c", url: "https://x/c", .upToNextMajor(from: "2.0.0")),
])

====
let package = Package(dependencies: [
  .package(url: "https://github.com/a/b.git", from: "1.1.0"),
  .package(name: "c", url: "https://x/c", .upToNextMajor(from: "2.0.0")),
])
